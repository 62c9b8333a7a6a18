"""The best epoch so far: its weights are the result of a run (Prechelt 1998)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan


@dataclass(frozen=True)
class Best:
    """The best evaluation: after how many steps and epochs, and the value."""

    step: int
    epoch: int
    value: float


@dataclass(frozen=True)
class EarlyStopping:
    """Compares evaluations by one of their numbers: the loss should fall, others should rise.

    It depends on the evaluations alone, so an interrupted run chooses the same epoch.

    metric: empty to keep the last weights.
    patience: the run is over after this many epochs without a better one; 0 for never.
    """

    metric: str
    patience: int

    def better(
        self, best: Best | None, step: int, epoch: int, scores: Mapping[str, float]
    ) -> Best | None:
        """Return this evaluation if it is better than the best so far; NaN never is."""
        if not self.metric:
            return None
        value = scores[self.metric]
        sign = -1 if self.metric == "loss" else 1
        if isnan(value) or (best is not None and sign * value <= sign * best.value):
            return None
        return Best(step, epoch, value)

    def over(self, best: Best | None, epoch: int) -> bool:
        """Return whether the run is over after this epoch."""
        newest = best.epoch if best else 0  # NaN from the start counts too
        return bool(self.metric and self.patience) and epoch - newest >= self.patience
