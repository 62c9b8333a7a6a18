"""The best epoch so far: whose weights a run comes to, and when it is over (Prechelt 1998)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan


@dataclass(frozen=True)
class Best:
    """The best evaluation: after how many steps and epochs, and the value."""

    step: int
    epoch: int
    value: float


class EarlyStopping:
    """Compares the evaluations by one of their numbers: the least loss, the most of others.

    It follows from the evaluations alone: an interrupted run chooses as one that was not.
    """

    def __init__(self, metric: str, patience: int) -> None:
        """metric: empty to keep the last weights; patience: epochs without a better one, 0: any."""
        self._metric, self._patience = metric, patience
        self.best: Best | None = None

    def better(self, step: int, epoch: int, scores: Mapping[str, float]) -> Best | None:
        """Return this evaluation when it is the best so far."""
        if not self._metric:
            return None
        value = scores[self._metric]
        sign = -1 if self._metric == "loss" else 1
        if isnan(value) or (self.best is not None and sign * value <= sign * self.best.value):
            return None
        return Best(step, epoch, value)

    def over(self, epoch: int) -> bool:
        """Return whether so many epochs brought nothing better."""
        return bool(self._patience and self.best and epoch - self.best.epoch >= self._patience)
