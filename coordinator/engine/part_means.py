"""The mean of a loss or a metric over a data set that is evaluated in parts."""

from collections.abc import Callable
from math import isclose, isnan

import torch
from torch import Tensor

from dfa_core.loss import WeightedLoss
from dfa_core.loss.observing import TargetUse

Measure = Callable[[Tensor, Tensor], float]
Weigh = Callable[[Tensor], float]


class PartMean:
    """One number of an evaluation: the mean of what a measure gives for the parts.

    A part weighs as many samples as it has, and for the loss what the loss says. A metric that
    masks or weighs samples by their targets has the weights of the loss, where these fit.
    Otherwise it is no mean over parts, and is computed for all of them at once.
    """

    def __init__(self, measure: Measure, loss: WeightedLoss, is_loss: bool = False) -> None:
        """measure: a metric, or the loss itself, as a function that returns a number."""
        self._measure, self._loss = measure, loss
        self._weigh: Weigh | None = loss.weigh if is_loss else len
        self._known = is_loss
        self._parts: list[tuple[float, float]] = []  # (mean, weight)

    @property
    def at_once(self) -> bool:
        """Return whether it needs all outputs at once; known after the first part."""
        return self._weigh is None

    def add(self, output: Tensor, target: Tensor) -> None:
        """Take in the next part."""
        value = self._measure(output, target) if self._known else self._first(output, target)
        if self._weigh is not None:
            self._parts.append((value, self._weigh(target)))

    def value(self, output: Tensor | None = None, target: Tensor | None = None) -> float:
        """Return the mean over all parts; output, target: of all samples, where it needs them."""
        if output is not None and target is not None and self.at_once:
            return self._measure(output, target)
        total = sum(weight for _, weight in self._parts)
        if not total:  # what the measure says of nothing
            return self._parts[0][0]
        return sum(value * weight for value, weight in self._parts if weight) / total

    def _first(self, output: Tensor, target: Tensor) -> float:
        """Measure the first part, and see what the parts weigh."""
        self._known = True
        use = TargetUse(output, target)
        with use:
            value = self._measure(output, target)
        masks = use.uneven or bool(use.means)
        weigh: Weigh = self._loss.weigh if masks else len
        fits = not masks if len(target) == 1 else self._fits(weigh, value, output, target)
        self._weigh = weigh if fits else None
        return value

    def _fits(self, weigh: Weigh, value: float, output: Tensor, target: Tensor) -> bool:
        """Return whether the weights give the mean of a part from the means of its halves."""
        halves = torch.arange(len(target)).tensor_split(2)
        parts = [(half, weigh(target[half])) for half in halves]
        total = sum(weight for _, weight in parts)
        try:
            terms = [w * self._measure(output[half], target[half]) for half, w in parts if w]
        except Exception:  # noqa: BLE001  # it needs more: samples of each class, for instance
            return False
        if not total or isnan(value):
            return True
        return isclose(sum(terms) / total, value, rel_tol=1e-5, abs_tol=1e-9)
