"""What is broadcast to the blocks: the global error, or what stands for it in cheaper rules."""

from math import prod

import torch
from torch import Tensor

from dfa_core.activations import TensorSpec
from dfa_core.errors import JobError
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from


def known_before_forward(rule: LearningRule) -> bool:
    """Return whether the broadcast is known before the head has run."""
    return rule.feedback.rule.broadcast == "target"


def broadcast(error: Tensor, target: Tensor, rule: LearningRule) -> Tensor:
    """Return what is broadcast for a microbatch, shaped like its error e.

    target: of the same samples.

    Raises what of_target() raises.
    """
    if known_before_forward(rule):
        return of_target(target, TensorSpec.of(error), rule)
    if rule.feedback.rule.broadcast == "sign":
        return error.sign() / (prod(error.shape[: rule.sample_dims]) * rule.microbatches)
    return error


def message(signal: Tensor, rule: LearningRule, step: int, microbatch: int) -> Tensor:
    """Return the message that carries what is broadcast for a microbatch; its draws are its own."""
    form = rule.feedback.sent_as
    if not form.draws:
        return form.encode(signal)
    with drawing_from(derive(rule.seed, "draw", "error", step, microbatch)):
        return form.encode(signal)


def of_target(target: Tensor, error: TensorSpec, rule: LearningRule) -> Tensor:
    """Return what is broadcast for the targets of a microbatch, where that needs no error.

    target: a class a sample, whole numbers; error: of the global error, whose last dimension is the
        number of classes.

    Raises JobError for other targets.
    """
    classes = error.shape[-1] if error.shape else 0
    if target.is_floating_point() or target.shape[1:] != error.shape[:-1]:
        raise JobError(
            f"feedback.kind: target needs one class a sample, not targets of "
            f"{tuple(target.shape)}, {target.dtype}; use random"
        )
    wanted = torch.nn.functional.one_hot(target, classes).to(error.dtype)
    return -wanted / (target.numel() * rule.microbatches)
