"""A block that keeps each layer's input, so that gradients can go through the layer."""

from collections.abc import Sequence

from dfa_core.activations import Activations, detached
from dfa_core.block.layers_in_order import LayersInOrder
from dfa_core.layer import Layer
from dfa_core.passed_gradients import leaves

Key = tuple[int, int]  # step and microbatch


class InputsKept(LayersInOrder):
    """Each layer has a graph of its own, from its input to its output."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        self._inputs: dict[Key, list[Activations]] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers; arguments and errors are LayersInOrder's."""
        inputs, outputs = [], []
        for layer in self.layers:
            x = leaves(x) if layer.index else detached(x)  # the data learn nothing
            inputs.append(x)
            x = layer.forward(x, step, microbatch)
            outputs.append(x)
        self._inputs[step, microbatch], self._waiting[step, microbatch] = inputs, outputs
        return detached(x)
