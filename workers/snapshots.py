"""The state of a block as plain arrays: what workers hand to one another's memory."""

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
class PartState:
    """The whole state of one layer: weights, optimizer state, open gradients."""

    name: str
    tensors: dict[str, PackedTensor]
    scalars: ScalarState


def pack(parts: Sequence[TrainedModule]) -> list[PartState]:
    """Return the parts' states as they are now."""
    states = [(part.name, *part.state()) for part in parts]
    return [
        PartState(name, {key: PackedTensor.of(t) for key, t in tensors.items()}, scalars)
        for name, tensors, scalars in states
    ]


def restore(parts: Sequence[TrainedModule], states: Sequence[PartState]) -> None:
    """Take over what pack() returned of the same parts, bit for bit."""
    for part, state in zip(parts, states, strict=True):
        part.load_state({key: p.tensor() for key, p in state.tensors.items()}, state.scalars)
