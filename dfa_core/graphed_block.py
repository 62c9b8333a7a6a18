"""A block on a GPU that replays what it computes, as CUDA graphs.

Where layers are small a GPU is through with a kernel before the host has launched the next one; a
graph is launched at once. A replay works in the same memory each time, so every microbatch in
flight has a slot of its own. A layer's forward is one graph, for it draws from its own seed; the
update of all layers is one together, and as no layer's depends on another's, they are branches of
that graph, which the GPU works on side by side.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.cuda import CUDAGraph, Stream

from dfa_core.activations import Activations, TensorSpec, copied, detached, tensors
from dfa_core.block import Block, OnLayer, skipped
from dfa_core.errors import JobError
from dfa_core.layer import Layer

_WARM_UPS = 3  # libraries choose kernels and take memory at their first calls, which no graph holds

Shapes = tuple[tuple[int, TensorSpec], ...]


class Slot:
    """The memory of one microbatch in flight, and what is replayed in it."""

    def __init__(self, x: Activations) -> None:
        self.inputs = [copied(x)]  # of each layer; the last one's output ends the list
        self.outputs: list[Activations] = []  # the same, with autograd's graph
        self.forwards: list[CUDAGraph] = []
        self.error: Tensor | None = None
        self.update: CUDAGraph | None = None
        self.pool = torch.cuda.graph_pool_handle()

    def take(self, x: Activations) -> None:
        """Take the input of a microbatch."""
        for here, arrived in zip(tensors(self.inputs[0]), tensors(x), strict=True):
            here.data.copy_(arrived)  # .data: the forward is captured, autograd need not know

    def take_error(self, error: Tensor) -> Tensor:
        """Return the error, where the update finds it."""
        if self.error is None:
            self.error = torch.empty_like(error)
        return self.error.copy_(error)


class GraphedBlock(Block):
    """A block whose layers are on the current GPU.

    What is captured is fixed: no layer may compute something else at another step. In delayed mode
    forwards use other weights at each step, so there is no such block.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        # a layer's own: libraries keep memory to work in by stream, and branches must not share it
        self._streams = [Stream() for _ in layers]  # type: ignore[no-untyped-call]
        self._gradients: dict[Tensor, Tensor] = {}  # of each weight, where replays add to it
        self._free: dict[Shapes, list[Slot]] = defaultdict(list)
        self._taken: dict[tuple[int, int], Slot] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers; the output is the caller's to keep.

        Raises JobError where a layer does what no graph can hold.
        """
        free = self._free[_shapes(x)]
        slot = free.pop() if free else Slot(x)
        slot.take(x)
        for position, layer in enumerate(self.layers):
            layer.note_buffers(step)
            if position == len(slot.forwards):
                self._capture_forward(slot, position)
            with layer.drawing(step, microbatch):
                slot.forwards[position].replay()
        self._taken[step, microbatch] = slot
        self._waiting[step, microbatch] = slot.outputs
        return copied(slot.inputs[-1])

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch.

        Raises JobError where a layer does what no graph can hold.
        """
        slot = self._taken.pop((step, microbatch))
        del self._waiting[step, microbatch]
        if not skipped(self.layers, error, step):
            e = slot.take_error(error)
            slot.update = slot.update or self._captured_update(slot, e)
            slot.update.replay()
        if slot.update is not None:  # else it is still autograd's
            self._free[_shapes(slot.inputs[0])].append(slot)
        if each is not None:
            for layer in self.layers:
                each(layer, step)

    def step(self, step: int, before: OnLayer | None = None) -> None:
        """Let every layer's optimizer take its step with the gradients of batch `step`."""
        super().step(step, before)
        for weight, gradient in self._gradients.items():
            weight.grad = gradient
        if self._gradients:
            torch._foreach_zero_(list(self._gradients.values()))

    def _capture_forward(self, slot: Slot, position: int) -> None:
        layer, x, stream = self.layers[position], slot.inputs[position], self._streams[position]
        with _nothing_drawn([layer]):
            _warm_up(stream, lambda: layer.compute(x))
        compute = lambda: slot.outputs.append(layer.compute(x))  # noqa: E731
        slot.forwards.append(_captured(compute, slot, stream, layer.label))
        slot.inputs.append(detached(slot.outputs[position]))

    def _captured_update(self, slot: Slot, error: Tensor) -> CUDAGraph:
        before = {weight: gradient.clone() for weight, gradient in self._gradients.items()}
        stream = Stream()  # type: ignore[no-untyped-call]
        with _nothing_drawn(self.layers):
            # computed anew: what is captured keeps its random state where only graphs look for it
            _warm_up(stream, lambda: self._learn(error, lambda i: self._again(slot, i)))
        for layer in self.layers:
            for weight in layer.parameters.values():
                if weight.grad is not None and weight not in self._gradients:
                    self._gradients[weight] = weight.grad = torch.zeros_like(weight)
        learn = lambda: self._learn(error, slot.outputs.__getitem__)  # noqa: E731
        what = f"the update of {self.layers[0].label} to {self.layers[-1].label}"
        update = _captured(learn, slot, stream, what)
        for weight, gradient in self._gradients.items():  # without what the warm-up added
            gradient.copy_(before[weight]) if weight in before else gradient.zero_()
        return update

    def _again(self, slot: Slot, position: int) -> Activations:
        return self.layers[position].compute(slot.inputs[position])

    def _learn(self, error: Tensor, output: Callable[[int], Activations]) -> None:
        """Add the layers' gradients, each on its stream, beside one another."""
        current = torch.cuda.current_stream()
        for position, (layer, stream) in enumerate(zip(self.layers, self._streams, strict=True)):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                learning, gradients = layer.learning_signals(error, output(position))
                if learning:
                    torch.autograd.backward(learning, gradients)
        for stream in self._streams:
            current.wait_stream(stream)


@contextmanager
def _nothing_drawn(layers: Sequence[Layer]) -> Iterator[None]:
    """Leave generators and buffers as they are before."""
    buffers = {b: b.clone() for layer in layers for b in layer.module.buffers()}
    with layers[0].drawing(0, 0):
        yield
    for buffer, before in buffers.items():
        buffer.data.copy_(before)


def _shapes(x: Activations) -> Shapes:
    return tuple((len(one), TensorSpec.of(one)) for one in tensors(x))


def _warm_up(stream: Stream, work: Callable[[], object]) -> None:
    computing = torch.cuda.current_stream()
    stream.wait_stream(computing)
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            work()
    computing.wait_stream(stream)


def _captured(work: Callable[[], object], slot: Slot, stream: Stream, what: str) -> CUDAGraph:
    graph = CUDAGraph()
    try:
        # thread_local: what the links do meanwhile, in a thread of theirs, spoils nothing
        with torch.cuda.graph(graph, slot.pool, stream, "thread_local"):
            work()
    except (RuntimeError, JobError) as error:
        why = " ".join(str(error.__context__ or error).split())
        raise JobError(
            f"resources.cuda_graphs: {what} cannot be captured ({why}); train with "
            f"resources.cuda_graphs=false"
        ) from error
    return graph
