"""What every block is: consecutive layers, whatever rule they learn by."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dfa_core.activations import Activations, tensors
from dfa_core.layer import Layer

OnLayer = Callable[[Layer, int], None]  # called with a layer and the step


class LayersInOrder:
    """Consecutive layers, and the outputs of the microbatches that wait for their signal."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)
        self._waiting: dict[tuple[int, int], list[Activations]] = {}  # outputs without their signal

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers and keep what its update will need.

        x: (samples..., features...), or a tuple of such tensors. It must stay unchanged until the
            update of this microbatch.

        Returns the last layer's output, without a graph.

        Raises JobError if a layer fails.
        """
        raise NotImplementedError

    def update(
        self, signal: Any, step: int, microbatch: int, each: OnLayer | None = None
    ) -> Activations | None:
        """Add the gradients of one microbatch, given what the layers learn from.

        each: called with every layer as soon as its gradients are complete.

        Returns what the block before this one learns from, if that comes from here.
        """
        raise NotImplementedError

    def input_gradients(self, signal: Any, step: int, microbatch: int) -> Activations | None:
        """Return what the block before learns from; weight_gradients() is to follow (`bp`)."""
        raise NotImplementedError

    def weight_gradients(self, step: int, microbatch: int, each: OnLayer | None = None) -> None:
        """Add the gradients of one microbatch, after input_gradients(); each: as in update()."""
        raise NotImplementedError

    def step(self, step: int, before: OnLayer | None = None) -> None:
        """Let every layer's optimizer take its step with the gradients of batch `step`.

        before: called with each layer just before its own step.
        """
        for layer in self.layers:
            if before is not None:
                before(layer, step)
            layer.apply_gradients(step)

    @torch.no_grad()
    def evaluate(self, x: Activations) -> Activations:
        """Run samples through all layers in evaluation mode. Raises JobError if a layer fails."""
        for layer in self.layers:
            x = layer.evaluate(x)
        return x

    def first_non_finite(self) -> str | None:
        """Name the first layer that holds NaN or infinity, in its weights or waiting outputs."""
        for position, layer in enumerate(self.layers):
            weight = layer.first_non_finite()
            if weight is not None:
                return f"{layer.label}, {weight}"
            for outputs in self._waiting.values():
                if not all(bool(torch.isfinite(h).all()) for h in tensors(outputs[position])):
                    return f"{layer.label}, its output"
        return None


def skip_if_non_finite(layers: Sequence[Layer], signal: Tensor, step: int) -> bool:
    """Mark the batch of `step` as skipped if the rule asks for it and its signal is not finite."""
    if not any(layer.rule.skip_non_finite for layer in layers):
        return False
    if bool(torch.isfinite(signal).all()):
        return False
    for layer in layers:
        layer.mark_skipped(step)
    return True
