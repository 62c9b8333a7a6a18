"""Host memory for received messages: used again once nothing refers to a message in it."""

import os
import weakref
from collections import defaultdict, deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfa_core import TensorSpec
from dfa_core.activations import ALIGNMENT

_POISONED = bool(os.environ.get("ERRORCAST_POISON"))

Memory = NDArray[np.uint8]


class MessageMemory:
    """Makes the tensors that messages are received into.

    Whoever takes such a tensor may keep it, or any view of it, as long as they like: a layer may
    return a view of its input, keep its input, or leave it in a graph. The memory is taken for
    another message only when the last of these tensors is gone.

    With ERRORCAST_POISON=1 in the environment, memory is filled with NaN whenever it is free, so
    that a test sees who still reads it.
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[Memory]] = defaultdict(deque)  # by size in bytes

    def tensor(self, spec: TensorSpec, samples: int) -> Tensor:
        """Return an uninitialised batch, (samples, ...), on the CPU."""
        size = samples * spec.bytes
        if size == 0:
            return spec.empty(samples)
        free = self._free[size]
        memory = free.pop() if free else _new(size)
        # torch keeps the array that it is given until the last tensor in its memory is gone
        lent = memory[:]
        weakref.finalize(lent, _take_back, free, memory).atexit = False
        return torch.from_numpy(lent).view(spec.dtype).view(samples, *spec.shape)


def _take_back(free: deque[Memory], memory: Memory) -> None:
    if _POISONED:
        memory.fill(0xFF)
    free.append(memory)


def _new(size: int) -> Memory:
    """Return aligned memory of this many bytes."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    aligned = memory[start : start + size]
    if _POISONED:
        aligned.fill(0xFF)
    return aligned
