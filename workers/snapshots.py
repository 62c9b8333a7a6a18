"""The state of a block as plain arrays, to be copied to the memory of other nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfa_core.trained import ScalarState, TrainedModule


@dataclass(frozen=True)
class PackedTensor:
    """A tensor of any dtype (numpy has no bfloat16) as bytes, which Ray shares without copying."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    data: "np.ndarray[Any, np.dtype[np.uint8]]"

    @classmethod
    def of(cls, tensor: Tensor) -> "PackedTensor":
        """Pack a contiguous tensor on the CPU; the bytes stay the tensor's."""
        data = tensor.reshape(-1).view(torch.uint8).numpy()
        return cls(tensor.dtype, tuple(tensor.shape), data)

    def tensor(self) -> Tensor:
        """Return a copy as a tensor."""
        copy = torch.empty(self.shape, dtype=self.dtype)
        copy.reshape(-1).view(torch.uint8).numpy()[:] = self.data
        return copy


@dataclass(frozen=True)
class ModuleState:
    """The whole state of one layer or of the head: weights, optimizer state, open gradients."""

    name: str
    tensors: dict[str, PackedTensor]
    scalars: ScalarState


def pack(modules: Sequence[TrainedModule]) -> list[ModuleState]:
    """Return the states of the modules as they are now."""
    states = [(module.name, *module.state()) for module in modules]
    return [
        ModuleState(name, {key: PackedTensor.of(t) for key, t in tensors.items()}, scalars)
        for name, tensors, scalars in states
    ]


def restore(modules: Sequence[TrainedModule], states: Sequence[ModuleState]) -> None:
    """Load what pack() returned of the same modules, bit for bit."""
    for module, state in zip(modules, states, strict=True):
        module.load_state({key: p.tensor() for key, p in state.tensors.items()}, state.scalars)
