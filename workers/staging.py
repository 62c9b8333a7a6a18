"""Copies messages between a rank's device and the host memory that gloo reads and writes.

On a CPU nothing is copied. On a GPU, copies go through pinned memory on streams of their own, so
that they run while the GPU computes. The host waits for a copy only before it reads or overwrites
the memory.
"""

import torch
from torch import Tensor

from dfa_core import TensorSpec
from workers.group import Read


class Staging:
    """The copies of one rank."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._gpu = device, device.type == "cuda"
        if self._gpu:
            self._out = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._in = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, spec: TensorSpec, samples: int) -> Tensor:
        """Return host memory into which a message can be received."""
        shape = (samples, *spec.shape)
        return torch.empty(shape, dtype=spec.dtype, pin_memory=self._gpu)

    def to_host(self, tensor: Tensor) -> tuple[Tensor, Read | None]:
        """Return a message in host memory, complete once the copy is over."""
        if not tensor.is_cuda:
            return tensor, None
        staged = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._out):
            staged.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._out)  # its memory is not reused before that
        return staged, _end_of(self._out)

    def to_device(self, message: Tensor) -> tuple[Tensor, Read | None]:
        """Return a message on the device; the host memory must not change during the copy."""
        if not self._gpu:
            return message, None
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._in):
            moved = message.to(self._device, non_blocking=True)
        computing.wait_stream(self._in)
        moved.record_stream(computing)
        return moved, _end_of(self._in)


def _end_of(stream: torch.cuda.Stream) -> Read:
    # blocking: the waiting thread sleeps and does not spin
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(stream)
    wait: Read = event.synchronize
    return wait
