"""Copies messages between a rank's device and the host memory that gloo reads and writes.

On a CPU nothing is copied. On a GPU, copies go through pinned memory on streams of their own, so
that they run while the GPU computes. The host waits for a copy only before it reads the memory.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.groups.group import NewTensor
from workers.groups.message_memory import MessageMemory

Copied = Callable[[], None]  # waits until a copy is over


class Staging:
    """The copies of one rank."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._gpu = device, device.type == "cuda"
        if self._gpu:
            self._out = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._in = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def receiving(self) -> NewTensor:
        """Return a function that makes host tensors to receive into.

        torch takes pinned memory for another tensor only after all copies from it have ended.
        """
        if not self._gpu:
            return MessageMemory().tensor
        return lambda spec, samples: torch.empty(
            (samples, *spec.shape), dtype=spec.dtype, pin_memory=True
        )

    def to_host(self, tensor: Tensor) -> tuple[Tensor, Copied | None]:
        """Return a message in host memory, and a function that waits until the copy is over."""
        if not tensor.is_cuda:
            return tensor, None
        staged = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._out):
            staged.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._out)  # its memory is not reused before that
        return staged, _end_of(self._out)

    def to_device(self, message: Tensor) -> Tensor:
        """Return a message on the device."""
        if not self._gpu:
            return message
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._in):
            moved = message.to(self._device, non_blocking=True)
        computing.wait_stream(self._in)
        moved.record_stream(computing)
        return moved


def _end_of(stream: torch.cuda.Stream) -> Copied:
    # blocking: the waiting thread sleeps and does not spin
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(stream)
    wait: Copied = event.synchronize
    return wait
