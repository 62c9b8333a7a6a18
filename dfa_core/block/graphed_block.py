"""A block on a GPU that captures its work as CUDA graphs and replays them.

If layers are small, a GPU finishes a kernel before the host has launched the next one. A graph
launches many kernels at once. A replay reads and writes the same memory each time, so every
microbatch in flight has a slot of its own. The forward of each layer is one graph, because each
layer draws from its own seed. The update of all layers is one graph together: no layer's update
depends on another's, so they are branches of that graph, which the GPU runs in parallel.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.cuda import CUDAGraph, Stream

from dfa_core.activations import Activations, TensorSpec, copied, detached, tensors
from dfa_core.block.block import Block, backward
from dfa_core.block.layers_in_order import OnLayer, skip_if_non_finite
from dfa_core.errors import JobError
from dfa_core.layer import Layer
from dfa_core.seeding import Draws, drawing_from

_WARM_UPS = 3  # libraries choose kernels and allocate memory in their first calls: not capturable

Shapes = tuple[tuple[int, TensorSpec], ...]


class Slot:
    """The memory of one microbatch in flight, and the graphs that are replayed in it."""

    def __init__(self, x: Activations) -> None:
        self.inputs = [copied(x)]  # of each layer; the last entry is the block's output
        self.outputs: list[Activations] = []  # of each layer, with autograd's graph
        self.forwards: list[CUDAGraph] = []
        self.error: Tensor | None = None
        self.update: CUDAGraph | None = None
        self.pool = torch.cuda.graph_pool_handle()

    def take(self, x: Activations) -> None:
        """Copy a microbatch to where the first forward reads it."""
        for own, new in zip(tensors(self.inputs[0]), tensors(x), strict=True):
            own.data.copy_(new)  # .data: the forward is captured, autograd need not know

    def take_error(self, error: Tensor) -> Tensor:
        """Copy the error to where the update reads it; return that tensor."""
        if self.error is None:
            self.error = torch.empty_like(error)
        return self.error.copy_(error)


class GraphedBlock(Block):
    """A block whose layers are on the current GPU.

    What was captured is fixed: a layer must compute the same at every step. Delayed mode is
    excluded, because its forwards use other weights at each step.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        # one per layer: libraries keep working memory per stream, which branches must not share
        self._streams = [Stream() for _ in layers]  # type: ignore[no-untyped-call]
        self._gradients: dict[Tensor, Tensor] = {}  # weight -> the tensor that replays add to
        self._free: dict[Shapes, list[Slot]] = defaultdict(list)
        self._in_flight: dict[tuple[int, int], Slot] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Run one microbatch through all layers; the output belongs to the caller.

        Raises JobError if a layer fails or cannot be captured.
        """
        free = self._free[_shapes(x)]
        slot = free.pop() if free else Slot(x)
        slot.take(x)
        for position, layer in enumerate(self.layers):
            layer.save_buffers(step)
            if position == len(slot.forwards):
                self._capture_forward(slot, position)
            with layer.drawing(step, microbatch):
                slot.forwards[position].replay()
        self._in_flight[step, microbatch] = slot
        self._waiting[step, microbatch] = slot.outputs
        return copied(slot.inputs[-1])

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch; arguments as for Block.update.

        Raises JobError if error and outputs do not fit, or if a layer cannot be captured.
        """
        slot = self._in_flight.pop((step, microbatch))
        del self._waiting[step, microbatch]
        if not skip_if_non_finite(self.layers, error, step):
            own_error = slot.take_error(error)
            if slot.update is None:
                slot.update = self._capture_update(slot, own_error)
            slot.update.replay()
        if slot.update is not None:  # otherwise autograd still needs the slot's outputs
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
        with _state_restored([layer]):
            _warm_up(stream, lambda: layer.compute(x))
        compute = lambda: slot.outputs.append(layer.compute(x))  # noqa: E731
        slot.forwards.append(_captured(compute, slot, stream, layer.label))
        slot.inputs.append(detached(slot.outputs[position]))

    def _capture_update(self, slot: Slot, error: Tensor) -> CUDAGraph:
        """Capture the update of all layers; gradients keep the values that they had before.

        A graph adds to gradients at fixed addresses. Autograd creates a gradient in the first
        backward only. So the warm-up creates them, each weight then gets a tensor that stays, the
        update is captured, and what the warm-up added is undone.
        """
        before = {weight: gradient.clone() for weight, gradient in self._gradients.items()}
        stream = Stream()  # type: ignore[no-untyped-call]
        self._warm_up_update(slot, error, stream)
        self._fix_gradients()
        update = _captured(
            lambda: self._add_gradients(error, slot.outputs.__getitem__),
            slot,
            stream,
            f"the update of {self.layers[0].label} to {self.layers[-1].label}",
        )
        for weight, gradient in self._gradients.items():
            gradient.copy_(before[weight]) if weight in before else gradient.zero_()
        return update

    def _warm_up_update(self, slot: Slot, error: Tensor, stream: Stream) -> None:
        """Run the update a few times on outputs that are computed again.

        The slot's outputs do not serve: their random state exists only inside their graphs.
        """

        def compute_again(position: int) -> Activations:
            return self.layers[position].compute(slot.inputs[position])

        with _state_restored(self.layers):
            _warm_up(stream, lambda: self._add_gradients(error, compute_again))

    def _fix_gradients(self) -> None:
        """Give each weight that has a gradient a tensor for it that stays."""
        for layer in self.layers:
            for weight in layer.parameters.values():
                if weight.grad is not None and weight not in self._gradients:
                    self._gradients[weight] = weight.grad = torch.zeros_like(weight)

    def _add_gradients(self, error: Tensor, output: Callable[[int], Activations]) -> None:
        """Add the gradients of all layers, each on its own stream.

        output: returns the output, with its graph, of the layer at a position.
        """
        current = torch.cuda.current_stream()
        for position, (layer, stream) in enumerate(zip(self.layers, self._streams, strict=True)):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                backward([(layer, output(position))], error)
        for stream in self._streams:
            current.wait_stream(stream)


@contextmanager
def _state_restored(layers: Sequence[Layer]) -> Iterator[None]:
    """Restore torch's generators and the layers' buffers afterwards."""
    buffers = {b: b.clone() for layer in layers for b in layer.module.buffers()}
    with drawing_from(0, Draws.TORCH):
        yield
    for buffer, before in buffers.items():
        buffer.data.copy_(before)


def _shapes(x: Activations) -> Shapes:
    return tuple((len(tensor), TensorSpec.of(tensor)) for tensor in tensors(x))


def _warm_up(stream: Stream, work: Callable[[], object]) -> None:
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            work()
    current.wait_stream(stream)


def _captured(work: Callable[[], object], slot: Slot, stream: Stream, what: str) -> CUDAGraph:
    """Return the graph of this work; what: names it. Raises JobError if CUDA cannot capture it."""
    graph = CUDAGraph()
    try:
        # thread_local: CUDA calls of the links' threads must not make the capture fail
        with torch.cuda.graph(graph, slot.pool, stream, "thread_local"):
            work()
    except (RuntimeError, JobError) as error:
        reason = " ".join(str(error.__context__ or error).split())
        raise JobError(
            f"resources.cuda_graphs: {what} cannot be captured ({reason}); train with "
            f"resources.cuda_graphs=false"
        ) from error
    return graph
