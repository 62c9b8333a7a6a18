"""The single-process reference: what every distributed path must equal bit for bit.

It holds the whole model and goes through it layer by layer, microbatch by microbatch, as the rule
is written down; `bp` and `shallow` are the methods to compare with.
"""

from collections.abc import Iterator, Mapping
from math import isfinite

import torch
from torch import Tensor

from dfa_core.activations import Activations, TensorSpec, detached
from dfa_core.block import add_local_gradients, skip_if_non_finite
from dfa_core.head import Head, Loss
from dfa_core.layer import LearnsBy, build_layers
from dfa_core.microbatch import split
from dfa_core.model import Model
from dfa_core.rule import LearningRule, Method
from dfa_core.signals import broadcast, message
from dfa_core.trained import TrainedModule

# what is added to the head's output is as good as part of the head, also for `shallow`
_LEARNS_BY: Mapping[Method, tuple[LearnsBy, ...]] = {
    "dfa": ("feedback", "error"),
    "shallow": ("error",),
}


class Reference:
    """Trains a whole model in this process by `dfa`, `bp` (exact) or `shallow` (head alone)."""

    def __init__(
        self, model: Model, loss: Loss, rule: LearningRule, method: Method = "dfa"
    ) -> None:
        self.rule = rule
        self.method = method
        self.layers = build_layers(model, 0, len(model.layers), rule)
        self.head = Head(model, loss, rule)

    def trained_modules(self) -> Iterator[TrainedModule]:
        """Yield all layers, then the head."""
        yield from self.layers
        yield self.head

    def to(self, device: torch.device) -> None:
        """Move to a device, before the first step; batches are to come from there."""
        for module in self.trained_modules():
            module.to(device)

    def train_step(self, step: int, x: Tensor, target: Tensor) -> float:
        """Train on one batch; return its loss, the mean over the microbatches.

        Raises JobError when M does not divide the batch, NonFiniteLoss for NaN or infinity.
        """
        losses = self.add_gradients(step, x, target)
        if step >= self.rule.staleness:
            for layer in self.layers:
                layer.apply_gradients(step - self.rule.staleness)
        self.head.apply_gradients(step)
        return sum(losses) / len(losses)

    def add_gradients(self, step: int, x: Tensor, target: Tensor) -> list[float]:
        """Add the gradients of one batch; return the loss of each microbatch."""
        m = self.rule.microbatches
        one = self._exact if self.method == "bp" else self._local
        pairs = zip(split(x, m), split(target, m), strict=True)
        return [one(step, i, x_i, target_i) for i, (x_i, target_i) in enumerate(pairs)]

    def _local(self, step: int, microbatch: int, x: Activations, target: Tensor) -> float:
        by, outputs = _LEARNS_BY[self.method], []
        for layer in self.layers:
            with torch.set_grad_enabled(layer.learns(by)):
                x = layer.forward(detached(x), step, microbatch)
            outputs.append(x)
        loss, error = self.head.error(x, target, step, microbatch)
        if not skip_if_non_finite(self.layers, error, step):
            received = self._received(error, target, step, microbatch)
            add_local_gradients(self.layers, outputs, received, by)
        return loss

    def _received(self, error: Tensor, target: Tensor, step: int, microbatch: int) -> Tensor:
        """Return the error as blocks would decode it; `shallow` broadcasts nothing."""
        if self.method != "dfa":
            return error
        sent = message(broadcast(error, target, self.rule), self.rule, step, microbatch)
        return self.rule.feedback.sent_as.decode(sent, TensorSpec.of(error))

    def _exact(self, step: int, microbatch: int, x: Activations, target: Tensor) -> float:
        for layer in self.layers:
            x = layer.forward(x, step, microbatch)
        loss, _ = self.head.forward_loss(x, target, step, microbatch)
        value = self.head.finite(loss, step, microbatch)
        if not isfinite(value):
            for module in self.trained_modules():
                module.mark_skipped(step)
            return value
        torch.autograd.backward(loss / self.rule.microbatches)
        return value

    @torch.no_grad()
    def evaluate(self, x: Activations) -> Tensor:
        """Return the head's output in evaluation mode."""
        for layer in self.layers:
            x = layer.evaluate(x)
        return self.head.evaluate(x)
