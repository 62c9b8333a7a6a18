"""Notices weights that two layers share: trained apart, they would drift apart without a word."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dfa_core.errors import JobError


@dataclass(frozen=True)
class _Weight:
    """A tensor that training changes: its owner, its name there, and where it lies in memory."""

    owner: str
    name: str
    tensor: "weakref.ref[Tensor]"
    storage: int
    first: int
    last: int

    @classmethod
    def of(cls, owner: str, name: str, tensor: Tensor) -> "_Weight":
        strides = zip(tensor.shape, tensor.stride(), strict=True)
        extent = 1 + sum(int(size - 1) * int(stride) for size, stride in strides)
        first = int(tensor.storage_offset()) * tensor.element_size()
        last = first + extent * tensor.element_size()
        storage = tensor.untyped_storage().data_ptr()
        return cls(owner, name, weakref.ref(tensor), storage, first, last)

    def overlaps(self, other: "_Weight") -> bool:
        return self.storage == other.storage and self.first < other.last and other.first < self.last


class SharedWeights:
    """Remembers the weights of the modules that a model's factories returned.

    It keeps none of them alive. Weights of a module that is gone belong to no other layer.
    """

    def __init__(self) -> None:
        self._known: list[_Weight] = []

    def note(self, owner: str, module: nn.Module) -> None:
        """Remember the weights of a layer, or of the head; owner: how messages name it.

        Raises JobError, with both names, if another owner has one of them. Sharing within one
        owner is right, and so is sharing what training does not change: frozen weights.
        """
        self._known = [one for one in self._known if one.tensor() is not None]
        known = [one for one in self._known if one.owner != owner]
        new = [_Weight.of(owner, name, tensor) for name, tensor in _changing(module)]
        for weight in new:
            other = next((one for one in known if one.overlaps(weight)), None)
            if other is not None:
                raise JobError(
                    f"{other.owner} and {owner} share a weight ({other.name} and {weight.name}): "
                    f"every layer trains by itself, so they would drift apart; put both into one "
                    f"layer, give each its own weight, or freeze it (requires_grad=False)"
                )
        self._known = known + new

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is known: addresses mean nothing in another process."""
        return {"_known": []}


def _changing(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what training changes: trained weights and running statistics."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.numel():
            yield name, parameter
    for name, part in module.named_modules():
        if isinstance(part, _NormBase) and part.training:
            for buffer in ("running_mean", "running_var"):
                statistics = getattr(part, buffer)
                if statistics is not None:
                    yield f"{name}.{buffer}".lstrip("."), statistics
