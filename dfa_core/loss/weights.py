"""Weights of a mean, found without the task's help: from the target alone."""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dfa_core.loss.mean import Loss
from dfa_core.loss.observing import CrossEntropy, cross_entropy
from dfa_core.seeding import derive, drawing_from, draws_of


@dataclass(frozen=True)
class CountedWeight:
    """What a call of cross entropy divides by: classes that are not ignored, or their weights.

    elements: of the target in a sample, so that a sample of which nothing is ignored weighs 1.
    """

    ignore_index: int
    class_weight: Tensor | None
    elements: float

    @classmethod
    def of(cls, call: CrossEntropy, elements: float) -> "CountedWeight":
        """Return the weight that a call has."""
        weight = call.class_weight
        kept = None if weight is None else weight.detach().cpu().double()
        return cls(call.ignore_index, kept, elements)

    def __call__(self, target: Tensor) -> float:
        """Return the weight of these classes, in samples."""
        counts = target != self.ignore_index
        if self.class_weight is None:
            return int(counts.sum()) / self.elements
        classes = torch.bincount(target[counts].cpu(), minlength=len(self.class_weight))
        return float(classes.double() @ self.class_weight) / self.elements


class CalledWeight:
    """What a loss's first call of cross entropy divides by, where the loss makes its target.

    The loss runs up to that call, on an output without numbers.
    """

    def __init__(self, loss: Loss, output: Tensor, elements: float) -> None:
        """output: of some samples; elements: as CountedWeight's."""
        self._loss, self._elements, self._draws = loss, elements, draws_of(loss)
        self._form, self._dtype = tuple(output.shape[1:]), output.dtype

    def __call__(self, target: Tensor) -> float:
        """Return the weight of the samples with these targets. Raises what the loss raises."""
        output = torch.empty(len(target), *self._form, dtype=self._dtype, device="meta")
        try:
            with drawing_from(derive(0, "loss weight"), self._draws), _FirstCrossEntropy():
                self._loss(output, target.clone())
        except _FoundError as found:
            return CountedWeight.of(found.call, self._elements)(found.call.target)
        raise ValueError("the loss calls no cross entropy")


class _FoundError(Exception):
    def __init__(self, call: CrossEntropy) -> None:
        super().__init__()
        self.call = call


class _FirstCrossEntropy(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        call = cross_entropy(func, args, kwargs or {})
        if call is not None:
            raise _FoundError(call)
        return func(*args, **(kwargs or {}))


class MeasuredWeight:
    """The weight of samples relative to some others, the anchor, as the gradient shows it.

    In the mean over both, the anchor has the gradient of its own mean times its share of the
    weights. That share depends on the targets alone, so any output shows it.
    """

    _ROUNDING = 1e-5

    def __init__(self, loss: Loss, output: Tensor, target: Tensor) -> None:
        """output, target: of some samples, of which the two that teach most become the anchor."""
        self._loss, self._output, self._draws = loss, output, draws_of(loss)
        gradient = self._gradient(output, target).flatten(1).abs().sum(1)
        anchor = gradient.argsort(descending=True, stable=True)[:2]
        self._anchor, self._of_anchor = output[anchor], target[anchor]
        self._alone = self._gradient(self._anchor, self._of_anchor)
        if not 0 < float(self._alone.abs().sum()) < inf:
            raise ValueError("none of these samples counts")

    def __call__(self, target: Tensor) -> float:
        """Return the weight of the samples with these targets, in samples like the anchor's."""
        rows = torch.arange(len(target)) % len(self._output)
        output = torch.cat([self._anchor, self._output[rows]])
        both = torch.cat([self._of_anchor, target.to(self._of_anchor.device)])
        beside = self._gradient(output, both)[: len(self._anchor)]
        share = (beside * self._alone).sum() / (self._alone * self._alone).sum()
        weight = len(self._anchor) * (1 / float(share) - 1)
        near = round(weight)
        return float(near) if abs(weight - near) <= self._ROUNDING * max(weight, 1.0) else weight

    def _gradient(self, output: Tensor, target: Tensor) -> Tensor:
        leaf = output.detach().clone().requires_grad_()
        with torch.enable_grad(), drawing_from(derive(0, "loss weight"), self._draws):
            (gradient,) = torch.autograd.grad(self._loss(leaf, target), leaf)
        return gradient.double()
