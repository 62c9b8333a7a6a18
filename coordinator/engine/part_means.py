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

    Whether it is a mean shows in the first part whose halves give different numbers. Until then,
    and if there is none, it needs all outputs.
    """

    def __init__(self, measure: Measure, loss: WeightedLoss, is_loss: bool = False) -> None:
        """measure: a metric, or the loss itself, as a function that returns a number."""
        self._measure, self._loss = measure, loss
        self._weigh: Weigh | None = loss.weigh if is_loss else len
        self._known = self._shown = is_loss
        self._parts: list[tuple[float, float]] = []  # (mean, weight)
        self._added = 0

    @property
    def at_once(self) -> bool:
        """Return whether it needs all outputs at once, as far as the parts have shown."""
        return self._weigh is None or not self._shown

    def add(self, output: Tensor, target: Tensor) -> None:
        """Take in the next part."""
        self._added += 1
        if not self._known:
            value = self._first(output, target)
        else:
            value = self._measure(output, target)
            if not self._shown and self._weigh is not None:
                self._settle(self._weigh, value, output, target)
        if self._weigh is not None:
            self._parts.append((value, self._weigh(target)))

    def value(self, output: Tensor | None = None, target: Tensor | None = None) -> float:
        """Return the mean over all parts; output, target: of all samples, where it needs them."""
        known = self._added == 1 and bool(self._parts)
        if output is not None and target is not None and self.at_once and not known:
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
        self._settle(self._loss.weigh if masks else len, value, output, target)
        return value

    def _settle(self, weigh: Weigh, value: float, output: Tensor, target: Tensor) -> None:
        """See whether these weights give the mean of a part from the means of its halves."""
        fits = None if len(target) == 1 else self._fits(weigh, value, output, target)
        self._shown = fits is not None
        self._weigh = None if fits is False else weigh

    def _fits(self, weigh: Weigh, value: float, output: Tensor, target: Tensor) -> bool | None:
        """Return whether the mean fits; None where the halves are too alike to show it."""
        halves = torch.arange(len(target)).tensor_split(2)
        weights = [weigh(target[half]) for half in halves]
        try:
            means = [
                self._measure(output[half], target[half]) if weight else 0.0
                for half, weight in zip(halves, weights, strict=True)
            ]
        except Exception:  # noqa: BLE001  # it needs more: samples of each class, for instance
            return False
        if not sum(weights) or isnan(value):
            return None
        terms = (mean * weight for mean, weight in zip(means, weights, strict=True))
        fits = isclose(sum(terms) / sum(weights), value, rel_tol=1e-5, abs_tol=1e-9)
        return None if fits and (not all(weights) or means[0] == means[1]) else fits
