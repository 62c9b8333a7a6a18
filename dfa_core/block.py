"""A layer block and its local update: the learning rule, in one page."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dfa_core.activations import Activations, detached, tensors
from dfa_core.layer import Layer

OnLayer = Callable[[Layer, int], None]  # with the step


class Block:
    """Consecutive layers that learn from the global error alone (Nøkland 2016; arXiv 2006.12878).

    Layer i has input h[i-1], cut off from the graph, and output h[i] = f_i(h[i-1]; w_i). Given the
    global error e, its gradient is (d h[i] / d w_i)^T · (e·B_i): nothing passes between layers.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)
        self._waiting: dict[tuple[int, int], list[Activations]] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers and keep what its update will need.

        Returns the last layer's output, without a graph. The input must stay as it is until the
        update of the same microbatch.
        """
        outputs = []
        for layer in self.layers:
            x = layer.forward(detached(x), step, microbatch)
            outputs.append(x)
        self._waiting[step, microbatch] = outputs
        return detached(x)

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch, all layers in one call to autograd.

        error: the global error e of that microbatch, (samples..., error features...).
        each: called with every layer as soon as its gradients are there; they then come layer by
            layer, which changes no bit.
        """
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        waiting = self._waiting.pop((step, microbatch))
        non_finite = skipped(self.layers, error, step)
        for layer, h in zip(self.layers, waiting, strict=True):
            if not non_finite:
                of_layer = layer.learning_signals(error, h)
                outputs += of_layer[0]
                gradients += of_layer[1]
            if each is not None:
                if outputs:
                    torch.autograd.backward(outputs, gradients)
                outputs, gradients = [], []
                each(layer, step)
        if outputs:
            torch.autograd.backward(outputs, gradients)

    def step(self, step: int, before: OnLayer | None = None) -> None:
        """Let every layer's optimizer take its step with the gradients of batch `step`.

        before: called with each layer just before its own.
        """
        for layer in self.layers:
            if before is not None:
                before(layer, step)
            layer.apply_gradients(step)

    @torch.no_grad()
    def evaluate(self, x: Activations) -> Activations:
        """Run samples through all layers in evaluation mode."""
        for layer in self.layers:
            x = layer.evaluate(x)
        return x

    def first_non_finite(self) -> str | None:
        """Name the first layer whose weights, or outputs that wait for an error, are not finite."""
        for position, layer in enumerate(self.layers):
            weight = layer.first_non_finite()
            if weight is not None:
                return f"{layer.label}, {weight}"
            for outputs in self._waiting.values():
                found = tensors(outputs[position])
                if not all(bool(torch.isfinite(tensor).all()) for tensor in found):
                    return f"{layer.label}, its output"
        return None


def skipped(layers: Sequence[Layer], error: Tensor, step: int) -> bool:
    """Let layers that skip non-finite batches leave out one whose error says so; return whether."""
    skips = any(layer.skip_non_finite for layer in layers)
    if not skips or bool(torch.isfinite(error).all()):
        return False
    for layer in layers:
        layer.leave_out(step)
    return True
