"""A layer block and its local update: the learning rule, on one page."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfa_core.activations import Activations, detached
from dfa_core.block.given_gradients import with_gradients
from dfa_core.block.layers_in_order import LayersInOrder, OnLayer, skip_if_non_finite
from dfa_core.layer import LEARNING, Layer, LearnsBy
from dfa_core.rule import Method


def learns_by(method: Method) -> tuple[LearnsBy, ...]:
    """Return which outputs of layers learn under a method that passes no gradients.

    What the head adds to its output counts as a part of the head, also for `shallow`.
    """
    return ("error",) if method == "shallow" else LEARNING


class Block(LayersInOrder):
    """Consecutive layers that learn from the global error alone (Nøkland 2016; arXiv 2006.12878).

    Layer i maps its input h[i-1], detached from the graph, to h[i] = f_i(h[i-1]; w_i). Given the
    global error e, its gradient is (∂h[i]/∂w_i)^T · (e·B_i): no gradient passes between layers.
    """

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers and keep what its update will need.

        x: (samples..., features...), or a tuple of such tensors. It must stay unchanged until the
            update of this microbatch.

        Returns the last layer's output, without a graph.

        Raises JobError if a layer fails.
        """
        outputs = []
        for layer in self.layers:
            by = learns_by(layer.rule.method)
            with torch.set_grad_enabled(layer.learns(by)):
                x = layer.forward(detached(x), step, microbatch)
            outputs.append(x)
        self._waiting[step, microbatch] = outputs
        return detached(x)

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch.

        error: the global error e of this microbatch, (samples..., error features).
        each: called with every layer as soon as its gradients are complete; they are then computed
            layer by layer, which gives the same bits.

        Raises JobError if error and outputs do not fit.
        """
        outputs = self._waiting.pop((step, microbatch))
        skip = skip_if_non_finite(self.layers, error, step)
        if each is None:
            if not skip:
                add_local_gradients(self.layers, outputs, error, step, microbatch)
            return
        for layer, h in zip(self.layers, outputs, strict=True):
            if not skip:
                add_local_gradients([layer], [h], error, step, microbatch)
            each(layer, step)


def add_local_gradients(
    layers: Sequence[Layer],
    outputs: Sequence[Activations],
    error: Tensor,
    step: int,
    microbatch: int,
) -> None:
    """Add (∂h[i]/∂w_i)^T · (e·B_i) to the gradients of every layer.

    One call to autograd serves all layers, except those whose code may draw in its backward: these
    have seeds of their own.

    outputs: h[i] of each layer, with its graph; error: e.
    """
    pairs = list(zip(layers, outputs, strict=True))
    together = [pair for pair in pairs if not pair[0].draws.backward]
    backward(together, error, step, microbatch)
    for layer, h in pairs:
        if layer.draws.backward:
            with layer.drawing_backward(step, microbatch):
                backward([(layer, h)], error, step, microbatch)


def backward(
    pairs: Sequence[tuple[Layer, Activations]], error: Tensor, step: int = 0, microbatch: int = 0
) -> None:
    """Add the local gradients of these layers, given their outputs, in one call to autograd."""
    learning: list[Tensor] = []
    signals: list[Tensor] = []  # e·B_i, in place of dLoss/dh[i]
    for layer, h in pairs:
        by = learns_by(layer.rule.method)
        tensors_of_layer, signals_of_layer = layer.learning_signals(error, h, by, step, microbatch)
        learning += tensors_of_layer
        signals += signals_of_layer
    if learning:
        torch.autograd.backward(with_gradients(learning, signals))
