"""A block that keeps little of a microbatch that waits: it repeats its forward at the update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from dfa_core.activations import Activations, detached
from dfa_core.block.block import Block, add_local_gradients
from dfa_core.block.layers_in_order import OnLayer, skip_if_non_finite
from dfa_core.layer import Layer

Buffers = list[dict[str, Tensor]]  # of each layer, by name


class RecomputingBlock(Block):
    """A block that keeps a microbatch's input alone, and has one layer's graph at a time.

    The repeated forward draws the same random numbers, and starts from the buffers (running
    statistics) that the first one started from. So its bits are a Block's. Delayed mode is
    excluded: weights change between the two.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        self._inputs: dict[tuple[int, int], tuple[Activations, Buffers]] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers; arguments and errors as for Block.forward."""
        self._inputs[step, microbatch] = x, [_buffers_of(layer) for layer in self.layers]
        for layer in self.layers:  # with a graph: some code computes otherwise without one
            x = detached(layer.forward(detached(x), step, microbatch))
        return x

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch; arguments and errors as for Block.update."""
        x, before = self._inputs.pop((step, microbatch))
        if skip_if_non_finite(self.layers, error, step):
            if each:
                for layer in self.layers:
                    each(layer, step)
            return
        for layer, h in self._repeated(x, before, step, microbatch):
            add_local_gradients([layer], [h], error, step, microbatch)
            if each:
                each(layer, step)

    def first_non_finite(self) -> str | None:
        """Name the first layer that holds NaN or infinity, in its weights or waiting outputs."""
        self._waiting = {
            key: [detached(h) for _, h in self._repeated(x, before, *key)]
            for key, (x, before) in self._inputs.items()
        }
        try:
            return super().first_non_finite()
        finally:
            self._waiting.clear()

    def _repeated(
        self, x: Activations, before: Buffers, step: int, microbatch: int
    ) -> Iterator[tuple[Layer, Activations]]:
        """Yield each layer and its output, with its graph, as the first forward gave it."""
        for layer, buffers in zip(self.layers, before, strict=True):
            with _with_buffers(layer, buffers):
                h = layer.forward(detached(x), step, microbatch)
                yield layer, h
            x = detached(h)


def _buffers_of(layer: Layer) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in layer.module.named_buffers()}


@contextmanager
def _with_buffers(layer: Layer, buffers: dict[str, Tensor]) -> Iterator[None]:
    """Let a layer have these buffers inside the block."""
    now = _buffers_of(layer)
    _set(layer, buffers)
    try:
        yield
    finally:
        _set(layer, now)


def _set(layer: Layer, buffers: dict[str, Tensor]) -> None:
    for name, buffer in layer.module.named_buffers():
        # .data: graphs of other batches may hold it, and autograd would refuse their update
        buffer.data.copy_(buffers[name])
