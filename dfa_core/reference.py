"""The single-process reference: every distributed path must give its bits.

It holds the whole model and follows the learning rule as it is written down, layer by layer and
microbatch by microbatch.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from dfa_core.activations import Activations, TensorSpec, detached
from dfa_core.block import add_local_gradients, skip_if_non_finite
from dfa_core.block.block import learns_by
from dfa_core.block.exact_block import ExactBlock
from dfa_core.block.hopping_block import HoppingBlock
from dfa_core.head import Head
from dfa_core.layer import Layer, build_layers
from dfa_core.loss import Loss, settled
from dfa_core.microbatch import Share, batch_mean, cut, split
from dfa_core.model import Model
from dfa_core.rule import LearningRule, Method
from dfa_core.schedule import head_of
from dfa_core.seeding import restored_once
from dfa_core.signals import broadcast, message
from dfa_core.trained import TrainedModule


class Reference:
    """Trains a whole model in this process, and gives the same bits as a distributed run.

    In a job with replicas or several heads, each copy adds the gradients of its own microbatches,
    and these sums are then added in the order of the copies. The reference does the same if it is
    given the same numbers of copies.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        rule: LearningRule,
        replicas: int = 1,
        heads: int = 0,
    ) -> None:
        """Build all layers and the head.

        replicas: number of copies of each layer.
        heads: number of copies of the head in each replica; 0: one head for all.
        """
        self.rule = rule
        self._heads_of_replica = heads
        self._layers = [build_layers(model, 0, len(model.layers), rule) for _ in range(replicas)]
        self._heads = [Head(model, loss, rule) for _ in range(max(1, replicas * heads))]
        self.layers, self.head = self._layers[0], self._heads[0]

    def trained_modules(self) -> Iterator[TrainedModule]:
        """Yield all layers in order, then the head: of copies, the first."""
        yield from self.layers
        yield self.head

    def to(self, device: torch.device) -> None:
        """Move to a device, before the first step; batches must come from there."""
        for module in (*chain.from_iterable(self._layers), *self._heads):
            module.to(device)

    def settle_loss(self, x: Tensor, target: Tensor) -> None:
        """Find the weight of the loss's mean on the first batch, (samples, ...)."""
        xs, targets = (split(tensor, self.rule.microbatches) for tensor in (x, target))
        loss = settled(self.head.loss, self.evaluate(xs[0]), targets)
        for head in self._heads:
            head.loss = loss

    @restored_once()
    def train_step(self, step: int, x: Tensor, target: Tensor) -> float:
        """Train on one batch; return its loss, the mean over the batch.

        x, target: (samples, ...). In delayed mode the layers take the optimizer step of the batch
        `staleness` steps ago, and in `bp` the head does too.

        Raises JobError if M does not divide the batch or the model does not fit it, and
        NonFiniteLoss for a loss of NaN or infinity, unless the rule skips such batches.
        """
        loss = self.add_gradients(step, x, target)
        for copies in (*zip(*self._layers, strict=True), self._heads):
            delay = self.rule.head_staleness if copies is self._heads else self.rule.staleness
            if step >= delay:
                _apply_sum(copies, step - delay)
        return loss

    def add_gradients(
        self, step: int, x: Tensor, target: Tensor, method: Method | None = None
    ) -> float:
        """Add the gradients of one batch; return its loss. Raises as train_step().

        method: whose gradients; by default the rule's.
        """
        batch = cut(x, target, self.rule.microbatches, self.head.loss)
        add = self._add_local
        if (method or self.rule.method) == "bp":
            add = self._add_exact
        elif self.rule.feedback.hops:
            add = self._add_hopping
        return batch_mean(
            [(add(step, i, one.x, one.target, one.share), one.share) for i, one in enumerate(batch)]
        )

    def _add_local(
        self, step: int, microbatch: int, x: Activations, target: Tensor, share: Share
    ) -> float:
        by, outputs = learns_by(self.rule.method), []
        layers, head = self._copies_for(microbatch)
        for layer in layers:
            with torch.set_grad_enabled(layer.learns(by)):
                x = layer.forward(detached(x), step, microbatch)
            outputs.append(x)
        loss, error = head.error(x, target, step, microbatch, share)
        if not skip_if_non_finite(layers, error, step):
            received = self._received(error, target, step, microbatch)
            add_local_gradients(layers, outputs, received, step, microbatch)
        return loss

    def _copies_for(self, microbatch: int) -> tuple[list[Layer], Head]:
        """Return the layers and the head that a microbatch of a batch goes to."""
        replicas, heads = len(self._layers), self._heads_of_replica
        in_replica, replica = divmod(microbatch, replicas)
        head = replica * heads + head_of(in_replica, heads)
        return self._layers[replica], self._heads[head]

    def _received(self, error: Tensor, target: Tensor, step: int, microbatch: int) -> Tensor:
        """Return the error as blocks decode it."""
        sent = message(broadcast(error, target, self.rule), self.rule, step, microbatch)
        return self.rule.feedback.sent_as.decode(sent, TensorSpec.of(error))

    def _add_exact(
        self, step: int, microbatch: int, x: Activations, target: Tensor, share: Share
    ) -> float:
        layers, head = self._copies_for(microbatch)
        block = ExactBlock(layers)
        h = block.forward(x, step, microbatch)
        loss, gradients = head.backward(h, target, step, microbatch, share)
        block.update(gradients, step, microbatch)
        return loss

    def _add_hopping(
        self, step: int, microbatch: int, x: Activations, target: Tensor, share: Share
    ) -> float:
        layers, head = self._copies_for(microbatch)
        block = HoppingBlock(layers)
        h = block.forward(x, step, microbatch)
        loss, error = head.error(h, target, step, microbatch, share)
        block.update(self._received(error, target, step, microbatch), step, microbatch)
        return loss

    @torch.no_grad()
    def evaluate(self, x: Activations) -> Tensor:
        """Return the head's output in evaluation mode (no dropout, fixed statistics)."""
        for layer in self.layers:
            x = layer.evaluate(x)
        return self.head.evaluate(x)


def _apply_sum(copies: Sequence[TrainedModule], step: int) -> None:
    """Let all copies of a module take the optimizer step with the sum of their gradients.

    Running statistics are those of the first copy.
    """
    first, *others = copies
    if others and first.parameters:
        total = sum((c.gradient_vector(step) for c in others), start=first.gradient_vector(step))
        for copy in copies:
            copy.take_gradient_vector(step, total.clone())
    for copy in others:
        for own, of_first in zip(
            copy.running_statistics(), first.running_statistics(), strict=True
        ):
            own.data.copy_(of_first)
    for copy in copies:
        copy.apply_gradients(step)
