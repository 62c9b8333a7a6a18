"""What one layer passes to the next: one tensor, or several tensors of the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from dfa_core.errors import JobError

Activations = Tensor | tuple[Tensor, ...]

ALIGNMENT = 64  # bytes, of memory that torch allocates on a CPU


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one sample of a tensor whose first dimension counts samples."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, batch: Tensor) -> "TensorSpec":
        """Return the spec of a batch, (samples, ...)."""
        return cls(tuple(batch.shape[1:]), batch.dtype)

    def __str__(self) -> str:
        """Return the form of a sample for messages: `(1, 8, 8) float32`."""
        return f"{self.shape} {str(self.dtype).removeprefix('torch.')}"

    @property
    def bytes(self) -> int:
        """Return the size of one sample in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def empty(self, samples: int, device: torch.device | None = None) -> Tensor:
        """Return an uninitialised batch of this many samples; without a device, on the CPU."""
        return torch.empty((samples, *self.shape), dtype=self.dtype, device=device)


@dataclass(frozen=True)
class ActivationSpec:
    """The activations between two layers, and the one message that they travel in.

    tensors: the spec of each tensor, the feedback point first.
    narrow: the tensors are fp32 but hold bf16 numbers, and travel as bf16.
    """

    tensors: tuple[TensorSpec, ...]
    narrow: bool = False

    @classmethod
    def of(cls, h: Activations, narrow: bool = False) -> "ActivationSpec":
        """Return the spec of activations. Raises JobError if their dtypes differ."""
        specs = tuple(map(TensorSpec.of, tensors(h)))
        if len({spec.dtype for spec in specs}) > 1:
            dtypes = ", ".join(str(spec.dtype) for spec in specs)
            raise JobError(f"a layer's tensors travel together and need one dtype, not {dtypes}")
        return cls(specs, narrow and specs[0].dtype == torch.float32)

    def __str__(self) -> str:
        """Return the form of a sample for messages."""
        return forms(self.tensors)

    def check(self, h: Activations, what: str) -> None:
        """Check that activations have this form, before they travel: the receiver relies on it.

        what: names the activations, as the subject of a sentence.

        Raises JobError, with both forms, if they do not.
        """
        found = tuple(map(TensorSpec.of, tensors(h)))
        if found != self.tensors:
            raise JobError(f"{what}: samples of {forms(found)}, where {self} was expected")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample of the first tensor."""
        return self.tensors[0].shape

    @property
    def bytes(self) -> int:
        """Return the size of one sample in memory, in bytes."""
        return sum(spec.bytes for spec in self.tensors)

    @property
    def message(self) -> TensorSpec:
        """Return the spec of the message that pack() makes."""
        dtype = torch.bfloat16 if self.narrow else self.tensors[0].dtype
        if len(self.tensors) == 1:
            return TensorSpec(self.tensors[0].shape, dtype)
        return TensorSpec((sum(prod(spec.shape) for spec in self.tensors),), dtype)

    def pack(self, h: Activations) -> Tensor:
        """Return activations as one message of the spec `message`.

        Several tensors are flattened to (samples, features of all). The message has memory of its
        own: a layer's output may be a view of something that changes before the message is read.
        """
        tensors_of_h = [t.detach() for t in tensors(h)]
        if len(tensors_of_h) == 1:
            message = tensors_of_h[0].to(self.message.dtype)
            return message.clone() if message is tensors_of_h[0] else message
        joined = torch.cat([t.flatten(1) for t in tensors_of_h], dim=1)
        return joined.bfloat16() if self.narrow else joined

    def unpack(self, message: Tensor) -> Activations:
        """Return what pack() was given, bit for bit, every tensor contiguous."""
        message = message.float() if self.narrow else message
        if len(self.tensors) == 1:
            return message
        flat = torch.split(message, [prod(spec.shape) for spec in self.tensors], dim=1)
        shaped = zip(flat, self.tensors, strict=True)
        return tuple(as_received(t).view(len(message), *spec.shape) for t, spec in shaped)


def forms(specs: Sequence[TensorSpec]) -> str:
    """Return the forms of some tensors' samples, for messages."""
    return ", ".join(map(str, specs))


def described(several: Sequence[Tensor]) -> str:
    """Return the shapes and dtypes of some batches, for messages."""
    return ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in several)


def tensors(h: Activations) -> Sequence[Tensor]:
    """Return activations as a sequence of tensors, even if there is only one."""
    return (h,) if isinstance(h, Tensor) else h


def as_received(x: Tensor) -> Tensor:
    """Return a tensor as a message would bring it: contiguous, at an aligned address.

    A matrix product may round differently on other strides or at another alignment.
    """
    x = x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNMENT else x


def copied(h: Activations) -> Activations:
    """Return a copy without its graph."""
    return h.detach().clone() if isinstance(h, Tensor) else tuple(t.detach().clone() for t in h)


def detached(h: Activations) -> Activations:
    """Return the same memory without its graph."""
    return h.detach() if isinstance(h, Tensor) else tuple(t.detach() for t in h)
