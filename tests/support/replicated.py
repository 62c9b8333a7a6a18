"""The single-process reference of replicas, whose copies of a module sum their own microbatches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dfa_core import Model, Reference
from dfa_core.activations import Activations, detached
from dfa_core.loss import Loss
from dfa_core.microbatch import Share, batch_mean, cut
from dfa_core.rule import LearningRule
from dfa_core.trained import TrainedModule


class Replicated(Reference):
    """Two replicas: each copy of a layer sums its microbatches' gradients, then both are summed.

    Two: gloo adds more in an order of its own, and a sum of two has but one.
    """

    replicas = 2

    def __init__(self, model: Model, loss: Loss, rule: LearningRule, heads: int = 1) -> None:
        """heads: one for all replicas, or one in each."""
        super().__init__(model, loss, rule)
        self._heads = heads

    def add_gradients(self, step: int, x: Tensor, target: Tensor) -> float:
        outputs: dict[int, list[Activations]] = {}
        errors: dict[int, Tensor] = {}
        losses: dict[int, tuple[float, Share]] = {}
        batch = cut(x, target, self.rule.microbatches, self.head.loss)
        for g, microbatch in enumerate(batch):
            h: Activations = microbatch.x
            outputs[g] = []
            for layer in self.layers:
                h = layer.forward(detached(h), step, g)
                outputs[g].append(h)

        def learn(g: int) -> None:
            h, one = outputs[g][-1], batch[g]
            loss, errors[g] = self.head.error(h, one.target, step, g, one.share)
            losses[g] = loss, one.share

        in_order = range(len(batch))
        _add_by_copies(self.head, [in_order[c :: self._heads] for c in range(self._heads)], learn)
        of_replicas = [in_order[r :: self.replicas] for r in range(self.replicas)]
        for index, layer in enumerate(self.layers):

            def update(g: int) -> None:
                signals = layer.learning_signals(errors[g], outputs[g][index])  # noqa: B023
                torch.autograd.backward(*signals)

            _add_by_copies(layer, of_replicas, update)
        return batch_mean([losses[g] for g in in_order])


def _add_by_copies(
    module: TrainedModule, copies: Sequence[range], add: Callable[[int], None]
) -> None:
    """Let each copy add the gradients of its microbatches; leave their sum in the module."""
    total: list[Tensor] = []
    for microbatches in copies:
        module.clear_gradients()
        for g in microbatches:
            add(g)
        gradients = [p.grad for p in module.parameters.values() if p.grad is not None]
        assert len(gradients) == len(module.parameters)
        total = [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
    for parameter, gradient in zip(module.parameters.values(), total, strict=True):
        parameter.grad = gradient
