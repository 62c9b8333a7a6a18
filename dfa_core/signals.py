"""What blocks learn from: the global error, what a cheaper rule sends instead, or gradients."""

from math import prod

import torch
from torch import Tensor

from dfa_core.activations import Activations, ActivationSpec, TensorSpec
from dfa_core.errors import JobError
from dfa_core.head import Head
from dfa_core.microbatch import Share
from dfa_core.rule import LearningRule
from dfa_core.seeding import Draws, derive, drawing_from


def known_before_forward(rule: LearningRule) -> bool:
    """Return whether the targets alone give the broadcast, so that no block waits for the head."""
    return rule.feedback.rule.broadcast == "target"


def head_learns(
    head: Head,
    h: Activations,
    target: Tensor,
    step: int,
    microbatch: int,
    share: Share | None,
    samples: int,
    error: TensorSpec,
) -> tuple[float, Tensor | None]:
    """Let the head learn from a microbatch; return its loss and the message for the blocks.

    h, target, share: as Head.error() has them. samples, error: what the message must be for.

    There is no message where blocks know their signal without it, or have none.

    Raises NonFiniteLoss and JobError as Head.error() does.
    """
    rule = head.rule
    if rule.method == "bp":
        loss, gradients = head.backward(h, target, step, microbatch, share)
        sent = None if gradients is None else ActivationSpec.of(gradients).pack(gradients)
        return loss, sent
    loss, e = head.error(h, target, step, microbatch, share)
    head.check_error(e, samples, error, step)
    if known_before_forward(rule):
        return loss, None
    return loss, message(broadcast(e, target, rule), rule, step, microbatch)


def broadcast(error: Tensor, target: Tensor, rule: LearningRule) -> Tensor:
    """Return what is broadcast for a microbatch, shaped like its error e.

    error: e, (samples..., error features), as Head.error() returns it; target: of the same samples.

    The sign (Frenkel 2021, eq. 6) is divided by the number of samples in the batch, as e is.

    Raises JobError as of_target() does.
    """
    if known_before_forward(rule):
        return of_target(target, TensorSpec.of(error), rule)
    if rule.feedback.rule.broadcast == "sign":
        return error.sign() / (prod(error.shape[: rule.sample_dims]) * rule.microbatches)
    return error


def message(signal: Tensor, rule: LearningRule, step: int, microbatch: int) -> Tensor:
    """Return the message that carries the broadcast of a microbatch.

    signal: what broadcast() or of_target() returned. Random draws (ternary) depend on seed, step
        and microbatch alone.
    """
    form = rule.feedback.sent_as
    if not form.draws:
        return form.encode(signal)
    with drawing_from(derive(rule.seed, "draw", "error", step, microbatch), Draws.TORCH):
        return form.encode(signal)


def of_target(target: Tensor, error: TensorSpec, rule: LearningRule) -> Tensor:
    """Return minus the one-hot target over the samples in the batch (DRTP: Frenkel 2021, eq. 9).

    target: one class for each sample, integers, (samples...).
    error: the spec of the global error, whose last dimension is the number of classes.

    Raises JobError for other targets.
    """
    classes = error.shape[-1] if error.shape else 0
    if target.is_floating_point() or target.shape[1:] != error.shape[:-1]:
        raise JobError(
            f"feedback.kind: {rule.feedback.kind} needs one class for each sample, not targets of "
            f"{tuple(target.shape)}, {target.dtype}; use random"
        )
    one_hot = torch.nn.functional.one_hot(target, classes).to(error.dtype)
    return -one_hot / (target.numel() * rule.microbatches)
