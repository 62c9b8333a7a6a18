"""A layer block and its local update: the learning rule, in one page."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfa_core.layer import Layer


class Block:
    """Consecutive layers that learn from the global error alone (Nøkland 2016; arXiv 2006.12878).

    Layer i has input h[i-1], cut off from the graph, and output h[i] = f_i(h[i-1]; w_i). Given the
    global error e, its gradient is (d h[i] / d w_i)^T · (e·B_i): nothing passes between layers.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)
        self._waiting: dict[tuple[int, int], list[Tensor]] = {}

    def forward(self, x: Tensor, step: int, microbatch: int) -> Tensor:
        """Run one microbatch through all layers and keep what its update will need.

        Returns the last layer's output, without a graph. The input must stay as it is until the
        update of the same microbatch.
        """
        outputs = []
        for layer in self.layers:
            output = layer.forward(x.detach(), step, microbatch)
            outputs.append(output)
            x = output
        self._waiting[step, microbatch] = outputs
        return x.detach()

    def update(self, error: Tensor, step: int, microbatch: int) -> None:
        """Add the local gradients of one microbatch, all layers in one call to autograd.

        error: the global error e of that microbatch, (samples..., error features...).
        """
        outputs, feedback = [], []
        waiting = self._waiting.pop((step, microbatch))
        if left_out(self.layers, error, step):
            return
        for layer, output in zip(self.layers, waiting, strict=True):
            if output.requires_grad:  # a layer without weights has nothing to learn
                outputs.append(output)
                feedback.append(layer.feedback.project(error, output))
        if outputs:
            torch.autograd.backward(outputs, feedback)

    def step(self, step: int) -> None:
        """Let every layer's optimizer take its step with the gradients of batch `step`."""
        for layer in self.layers:
            layer.apply_gradients(step)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
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
                if not bool(torch.isfinite(outputs[position]).all()):
                    return f"{layer.label}, its output"
        return None


def left_out(layers: Sequence[Layer], error: Tensor, step: int) -> bool:
    """Let layers that skip non-finite batches leave out one whose error says so; return whether."""
    skips = any(layer.skip_non_finite for layer in layers)
    if not skips or bool(torch.isfinite(error).all()):
        return False
    for layer in layers:
        layer.leave_out(step)
    return True
