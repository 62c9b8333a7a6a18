"""A block that learns by backpropagation: gradients pass from layer to layer."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dfa_core.activations import Activations, tensors
from dfa_core.block.given_gradients import with_gradients
from dfa_core.block.inputs_kept import InputsKept, Key
from dfa_core.block.layers_in_order import OnLayer
from dfa_core.block.taken_apart import TakenApart
from dfa_core.layer import Layer
from dfa_core.passed_gradients import all_nan, are_finite, gradients_of


class ExactBlock(InputsKept):
    """Consecutive layers that learn from the gradient of their outputs.

    Each layer has a graph of its own, between its input and its output. So the bits do not depend
    on where the model is cut into blocks.

    The backward pass of a microbatch is one, update(), or two: input_gradients(), for which the
    block before waits, and later weight_gradients(), for which nobody waits (zero bubble: Qi et al.
    2023, arXiv 2401.10241). Both give the same bits, if the microbatches keep their order.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        self._apart: dict[Key, list[TakenApart | None]] = {}  # in the order of the backward pass

    def update(
        self, gradients: Activations | None, step: int, microbatch: int, each: OnLayer | None = None
    ) -> Activations | None:
        """Add the gradients of one microbatch; return those of the block's input.

        gradients: dLoss/dh of the block's output, in its form; None where it has none.
        each: called with every layer as soon as its gradients are complete, from the last one.
        """
        for layer, x, h in self._backwards((step, microbatch)):
            outputs, given = _learning(h, gradients)
            if outputs and not _skips(layer, given, step):
                with layer.drawing_backward(step, microbatch):
                    torch.autograd.backward(with_gradients(outputs, given))
                gradients = gradients_of(x)
            else:
                gradients = all_nan(x) if outputs else gradients_of(x)
            if each:
                each(layer, step)
        return gradients

    def input_gradients(
        self, gradients: Activations | None, step: int, microbatch: int
    ) -> Activations | None:
        """Return the gradients of the block's input; those of the weights are to follow.

        gradients: as update() has them.
        """
        later = self._apart[step, microbatch] = list[TakenApart | None]()
        for layer, x, h in self._backwards((step, microbatch)):
            outputs, given = _learning(h, gradients)
            if not outputs or _skips(layer, given, step):
                gradients = all_nan(x) if outputs else gradients_of(x)
                later.append(None)
                continue
            apart = TakenApart(layer, layer.gradient_holders(step), outputs, given, x)
            with layer.drawing_backward(step, microbatch):
                gradients = apart.input_gradients()
            later.append(apart)
        return gradients

    def weight_gradients(self, step: int, microbatch: int, each: OnLayer | None = None) -> None:
        """Add the weights' gradients of a microbatch whose input_gradients() were returned."""
        later = self._apart.pop((step, microbatch))
        for layer, apart in zip(reversed(self.layers), later, strict=True):
            if apart is not None:
                with layer.drawing_backward(step, microbatch):
                    apart.weight_gradients()
            if each:
                each(layer, step)

    def _backwards(self, key: Key) -> Iterator[tuple[Layer, Activations, Activations]]:
        """Yield each layer, its input and its output, from the last one on, and keep none."""
        inputs, outputs = self._inputs.pop(key), self._waiting.pop(key)
        for layer in reversed(self.layers):
            yield layer, inputs.pop(), outputs.pop()


def _learning(h: Activations, gradients: Activations | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of a layer's output that have a graph, and the gradient of each."""
    if gradients is None:
        return [], []
    pairs = zip(tensors(h), tensors(gradients), strict=True)
    learning = [(t, g) for t, g in pairs if t.requires_grad]
    return [t for t, _ in learning], [g for _, g in learning]


def _skips(layer: Layer, gradients: Sequence[Tensor], step: int) -> bool:
    """Mark the batch as skipped if the rule asks for it and a gradient is not finite."""
    if not layer.rule.skip_non_finite or are_finite(tuple(gradients)):
        return False
    layer.mark_skipped(step)
    return True
