"""What a loss or a metric gives for one part of a data set, measured where the outputs are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isclose, isnan

import torch
from torch import Tensor

from dfa_core.loss import WeightedLoss
from dfa_core.loss.observing import TargetUse
from dfa_core.scoring.measure import Measure, Metrics, number_of

Weigh = Callable[[Tensor], float]


@dataclass(frozen=True)
class PartReport:
    """What one measure gives for a part.

    samples, weight: what the part weighs, as a number of samples and as the loss has it.
    masks: whether the measure skips or weighs samples by their targets; None: not looked at.
    fits_samples, fits_weight: whether the value is the mean of those of its halves, weighed so;
        None where they are too alike to show it, or where it was not looked at.
    """

    value: float
    samples: int
    weight: float
    masks: bool | None = None
    fits_samples: bool | None = None
    fits_weight: bool | None = None


class PartMeter:
    """Loss and metrics of the parts that reach one process."""

    def __init__(self, loss: WeightedLoss, metrics: Metrics, seed: int) -> None:
        """seed: of what loss and metrics draw from global generators, in each part the same."""
        self._loss = number_of("loss", loss.mean, seed)
        self._metrics = {n: _Meter(number_of(n, of, seed), loss) for n, of in metrics.items()}
        self._weigh: Weigh = loss.weigh

    def report(self, output: Tensor, target: Tensor) -> dict[str, PartReport]:
        """Return what the loss and each metric give for a part. Raises JobError as they do."""
        loss, weight = self._loss(output, target), self._weigh(target)
        metrics = {n: meter.report(output, target, weight) for n, meter in self._metrics.items()}
        return {"loss": PartReport(loss, len(target), weight, masks=True), **metrics}


def reports_of(
    outputs: Iterable[tuple[Tensor, Tensor]], loss: WeightedLoss, metrics: Metrics, seed: int
) -> Iterator[dict[str, PartReport]]:
    """Yield the reports of parts (head output, target) that reach this process."""
    meter = PartMeter(loss, metrics, seed)
    for output, target in outputs:
        yield meter.report(output, target)


class _Meter:
    """One metric; it looks at the halves of each part until these have shown what it is."""

    def __init__(self, measure: Measure, loss: WeightedLoss) -> None:
        self._measure, self._weigh = measure, loss.weigh
        self._first, self._shown = True, False

    def report(self, output: Tensor, target: Tensor, weight: float) -> PartReport:
        """Return what it gives for a part; weight: of the part, as the loss has it."""
        masks = None
        if self._first:
            use = TargetUse(output, target)
            with use:
                value = self._measure(output, target)
            masks, self._first = use.uneven or bool(use.means), False
        else:
            value = self._measure(output, target)
        samples = len(target)
        if self._shown or samples == 1:
            return PartReport(value, samples, weight, masks)
        fits_samples, fits_weight = self._fits(value, output, target)
        self._shown = fits_samples is not None and fits_weight is not None
        return PartReport(value, samples, weight, masks, fits_samples, fits_weight)

    def _fits(
        self, value: float, output: Tensor, target: Tensor
    ) -> tuple[bool | None, bool | None]:
        """Return whether the value is the mean of the halves', by samples and by the loss."""
        indices = torch.arange(len(target)).tensor_split(2)
        halves = [(output[half], target[half]) for half in indices]
        means = [self._mean(*half) for half in halves]
        by_samples = [float(len(of)) for _, of in halves]
        by_weight = [self._weigh(of) for _, of in halves]
        return _fits(value, means, by_samples), _fits(value, means, by_weight)

    def _mean(self, output: Tensor, target: Tensor) -> float | None:
        """Return what the metric gives for a half; None where it fails on it."""
        try:
            return self._measure(output, target)
        except Exception:  # noqa: BLE001  # it needs more: samples of each class, for instance
            return None


def _fits(value: float, means: list[float | None], weights: list[float]) -> bool | None:
    """Return whether these weights give the mean; None where the halves do not show it."""
    counted = [(mean, weight) for mean, weight in zip(means, weights, strict=True) if weight]
    terms = [mean * weight for mean, weight in counted if mean is not None]
    if len(terms) < len(counted):
        return False
    if not counted or isnan(value):
        return None
    fits = isclose(sum(terms) / sum(weights), value, rel_tol=1e-5, abs_tol=1e-9)
    return None if fits and (len(counted) < len(means) or means[0] == means[1]) else fits
