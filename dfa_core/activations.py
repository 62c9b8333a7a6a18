"""What goes from layer to layer: one tensor, or several of the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from dfa_core.errors import JobError

Activations = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one sample of a tensor whose first dimension counts samples."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, batch: Tensor) -> "TensorSpec":
        """Read the spec off a batch."""
        return cls(tuple(batch.shape[1:]), batch.dtype)

    @property
    def bytes(self) -> int:
        """Return the bytes of one sample."""
        return prod(self.shape) * self.dtype.itemsize

    def empty(self, samples: int) -> Tensor:
        """Return an uninitialised batch of this many samples."""
        return torch.empty((samples, *self.shape), dtype=self.dtype)


@dataclass(frozen=True)
class ActivationSpec:
    """What flows at one place between layers, and how it travels: as one message.

    parts: of each tensor, the feedback point first.
    narrow: they hold bf16 numbers in fp32, and travel as bf16.
    """

    parts: tuple[TensorSpec, ...]
    narrow: bool = False

    @classmethod
    def of(cls, h: Activations, narrow: bool = False) -> "ActivationSpec":
        """Read the spec off activations. Raises JobError when their dtypes differ."""
        parts = tuple(map(TensorSpec.of, tensors(h)))
        if len({part.dtype for part in parts}) > 1:
            found = ", ".join(str(part.dtype) for part in parts)
            raise JobError(f"a layer's tensors travel as one and must be of one dtype, not {found}")
        return cls(parts, narrow and parts[0].dtype == torch.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a sample of the first tensor."""
        return self.parts[0].shape

    @property
    def bytes(self) -> int:
        """Return the bytes of one sample, in memory."""
        return sum(part.bytes for part in self.parts)

    @property
    def message(self) -> TensorSpec:
        """Return the spec of the message that pack() makes."""
        dtype = torch.bfloat16 if self.narrow else self.parts[0].dtype
        if len(self.parts) == 1:
            return TensorSpec(self.parts[0].shape, dtype)
        return TensorSpec((sum(prod(part.shape) for part in self.parts),), dtype)

    def pack(self, h: Activations) -> Tensor:
        """Return activations as one message: a single tensor as it is, several side by side."""
        one = h if isinstance(h, Tensor) else torch.cat([t.flatten(1) for t in h], dim=1)
        return one.bfloat16() if self.narrow else one

    def unpack(self, message: Tensor) -> Activations:
        """Return what was packed, bit for bit and each tensor contiguous."""
        message = message.float() if self.narrow else message
        if len(self.parts) == 1:
            return message
        flat = torch.split(message, [prod(part.shape) for part in self.parts], dim=1)
        shaped = zip(flat, self.parts, strict=True)
        return tuple(t.contiguous().view(len(message), *part.shape) for t, part in shaped)


def tensors(h: Activations) -> Sequence[Tensor]:
    """Return the tensors, also of a single one."""
    return (h,) if isinstance(h, Tensor) else h


def copied(h: Activations) -> Activations:
    """Return the same values in memory of their own, without their graph."""
    return h.detach().clone() if isinstance(h, Tensor) else tuple(t.detach().clone() for t in h)


def detached(h: Activations) -> Activations:
    """Return the same values without their graph."""
    return h.detach() if isinstance(h, Tensor) else tuple(t.detach() for t in h)
