"""Head and loss: trained with the exact gradient; they give the global error."""

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from dfa_core.activations import Activations, TensorSpec, described, detached, tensors
from dfa_core.errors import JobError, NonFiniteLoss, reason
from dfa_core.input_guard import InputGuard
from dfa_core.layer.tangents import halves, pushed
from dfa_core.loss import Loss, weighted
from dfa_core.microbatch import WHOLE, Share, mean_loss
from dfa_core.model import Model, describe
from dfa_core.passed_gradients import all_nan, gradients_of, leaves
from dfa_core.precision import computing_in, widened
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from, draws_of
from dfa_core.trained import TrainedModule


class HeadPass(NamedTuple):
    """What a forward of the head and the loss gives; tangent: of what the error is taken at."""

    loss: Tensor
    output: Tensor
    tangent: Tensor | None


class Head(TrainedModule):
    """Everything after the last feedback point."""

    def __init__(self, model: Model, loss: Loss, rule: LearningRule) -> None:
        """loss: maps (head output, target) to the mean over the samples.

        A WeightedLoss says what that mean weighs; other losses weigh the number of samples.

        Raises JobError if the optimizer does not exist or refuses its options.
        """
        module = model.build_head(rule.seed)
        super().__init__("head", module, rule, key="head", delayed=rule.head_staleness > 0)
        self.label = f"the head ({describe(module)})"
        self.check_delay(self.label)
        self.loss = weighted(loss)
        self._inputs, self._evaluation_inputs = InputGuard(self.label), InputGuard(self.label)
        self._loss_inputs = InputGuard("the loss")
        self.draws = max(self.draws, draws_of(self.loss.mean))

    def error(
        self,
        h: Activations,
        target: Tensor,
        step: int,
        microbatch: int,
        share: Share | None = None,
    ) -> tuple[float, Tensor]:
        """Add the head's exact gradients; return the microbatch's loss and its global error e.

        h: output of the last layer, (samples..., features...), or a tuple of tensors whose first
            is the feedback point.
        target: of the same samples, as the loss takes it.
        share: of the microbatch in the mean over the batch; by default one of M equal ones.

        e is dLoss/d(head output), or dLoss/d(head input) if the rule asks for it, and has that
        tensor's shape. Both e and the gradients belong to the mean over the whole batch: they are
        the microbatch's own times its share, 1/M if all microbatches weigh the same. A microbatch
        that weighs nothing has the loss 0 and the error 0.

        If the rule sends tangents (layer/tangents.py), e is (samples..., error features, 2): each
        number of e is followed by the tangent of the number that it is the gradient of.

        If the loss is not finite and the rule skips such batches, e is all NaN.

        Raises NonFiniteLoss if the rule does not skip such a batch (no gradient is added), and
        JobError if head and data do not fit.
        """
        at_input = self.rule.error_at == "input"
        h = tuple(widened(tensor) for tensor in tensors(detached(h)))
        tensors(h)[0].requires_grad_(at_input)
        share = share or Share(1.0, float(self.rule.microbatches))
        loss, output, tangent = self.forward_loss(h, target, step, microbatch, share)
        tap = tensors(h)[0] if at_input else output
        tap.retain_grad()
        value = self.finite(loss, step, microbatch)
        if not isfinite(value):
            self.mark_skipped(step)
            return value, _beside(torch.full_like(tap, torch.nan, requires_grad=False), tangent)
        with self.drawing_backward(step, microbatch):
            torch.autograd.backward(loss / share.parts)
        if tap.grad is None:
            raise JobError(
                f"{self.label}: the loss does not depend on the head's {self.rule.error_at}"
            )
        if self.rule.skip_non_finite and not bool(torch.isfinite(tap.grad).all()):
            self.mark_skipped(step)
        return value, _beside(tap.grad, tangent)

    def backward(
        self,
        h: Activations,
        target: Tensor,
        step: int,
        microbatch: int,
        share: Share | None = None,
    ) -> tuple[float, Activations | None]:
        """Add the head's exact gradients; return the microbatch's loss and dLoss/dh.

        Arguments and errors are those of error(). dLoss/dh has the form of h, zeros where the loss
        does not depend on a tensor; it is None for tensors of integers, and all NaN if the loss is
        not finite and the rule skips such batches.
        """
        given = leaves(h)
        share = share or Share(1.0, float(self.rule.microbatches))
        loss = self.forward_loss(given, target, step, microbatch, share).loss
        value = self.finite(loss, step, microbatch)
        if not isfinite(value):
            self.mark_skipped(step)
            return value, all_nan(given)
        with self.drawing_backward(step, microbatch):
            torch.autograd.backward(loss / share.parts)
        return value, gradients_of(given)

    def check_error(self, e: Tensor, samples: int, expected: TensorSpec, step: int) -> None:
        """Check that a microbatch's error is what the blocks have room for. Raises JobError."""
        if (len(e), TensorSpec.of(e)) != (samples, expected):
            raise JobError(
                f"at step {step}, the error of {self.label} has {len(e)} samples of "
                f"{TensorSpec.of(e)}, the step before had {samples} of {expected}; the head's "
                f"{self.rule.error_at} must keep its form"
            )

    def finite(self, loss: Tensor, step: int, microbatch: int) -> float:
        """Return the loss as a number. Raises NonFiniteLoss if it is not finite but must be."""
        value = float(loss.item())
        if not isfinite(value) and not self.rule.skip_non_finite:
            raise NonFiniteLoss(step, microbatch, value)
        return value

    def forward_loss(
        self,
        h: Activations,
        target: Tensor,
        step: int,
        microbatch: int,
        share: Share = WHOLE,
    ) -> HeadPass:
        """Return the mean loss of the microbatch and the head's output, both with their graph.

        share: of the microbatch; where it is nothing, so is the loss.

        Raises JobError if head, loss and data do not fit.
        """
        self.save_buffers(step)
        seed = derive(self.rule.seed, "draw", "head", step, microbatch)
        with drawing_from(seed, self.draws):
            try:
                run, weights = self.training_call(), self.weights_of(step)
                compute = partial(self._output, run, guard=self._inputs, weights=weights)
                output, tangent = self._pushed(compute, h)
                if not output.requires_grad:  # a head without weights
                    output = output.detach().requires_grad_()
                with self._loss_inputs.given((output, target)) as (out, of):
                    return HeadPass(mean_loss(self.loss, out, of, share), output, tangent)
            except Exception as error:
                raise JobError(
                    f"at step {step}, {self.label} and the loss fail on inputs of "
                    f"{described(tensors(h))} and targets of {described([target])}: {reason(error)}"
                ) from error

    def _pushed(
        self, compute: Callable[[Activations], Tensor], h: Activations
    ) -> tuple[Tensor, Tensor | None]:
        """Return the head's output, and the tangent that goes with the error, if there is one."""
        if not self.rule.sends_tangents:
            return compute(h), None
        given, tangents = halves(h)
        if self.rule.error_at == "input":
            return compute(tuple(given)), tangents[0]
        (output,), (tangent,) = pushed(compute, given, tangents)
        return output, tangent

    @torch.no_grad()
    def evaluate(self, h: Activations) -> Tensor:
        """Return the head's output in evaluation mode (no dropout, fixed statistics).

        It has memory of its own: a head may give a buffer that it uses again.

        A module that draws here too draws the same numbers in every call.

        Raises JobError if the head fails.
        """
        seed = derive(self.rule.seed, "evaluate", "head")
        try:
            with self.evaluating(), drawing_from(seed, self.draws):
                return self._output(self.module, h, self._evaluation_inputs).clone()
        except Exception as error:
            came = described(tensors(h))
            raise JobError(f"{self.label} fails on an input of {came}: {reason(error)}") from error

    def _output(
        self,
        run: Callable[..., Activations],
        h: Activations,
        guard: InputGuard,
        weights: dict[str, Tensor] | None = None,
    ) -> Tensor:
        widest = [widened(tensor) for tensor in tensors(h)]
        with computing_in(self.rule.precision, widest[0]), guard.given(widest) as inputs:
            if weights is None:
                return widened(tensors(run(*inputs))[0])
            return widened(functional_call(self.module, weights, tuple(inputs)))


def _beside(error: Tensor, tangent: Tensor | None) -> Tensor:
    """Return the error; each number is followed by the tangent of what it is the gradient of."""
    return error if tangent is None else torch.stack([error, tangent.detach()], dim=-1)
