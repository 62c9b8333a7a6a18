"""What a run reports of each step, and how long its steps take."""

from collections.abc import Callable
from math import isfinite
from statistics import median
from time import perf_counter
from typing import Any

from coordinator.engine.base import Engine
from coordinator.job.resolve import Job
from coordinator.training.events import Progress
from coordinator.training.recovery import Recovery
from coordinator.training.reports import Reports
from dfa_core import TrainingFailed

_MOST_SKIPPED = 100
_WINDOW = 50  # steps whose median counts


class StepLog:
    """Reports steps as they are done."""

    def __init__(self, job: Job, total: int, recovery: Recovery, reports: Reports) -> None:
        """total: steps of the run."""
        self._samples, self._log_every = job.settings.batch_size, job.settings.log_every
        self._total, self._recovery, self._reports = total, recovery, reports
        self._seconds: list[float] = []
        self._newest = 0.0
        self._skipped = 0  # batches in a row

    def train(self, engine: Engine, first: int, last: int, rate: Callable[[int], float]) -> None:
        """Train steps first..last-1, and report each; rate: the learning rate of a step.

        Raises TrainingFailed after too many skipped batches in a row, and what the engine raises.
        """
        loads, before = engine.loads(), perf_counter()

        def on_step(step: int, loss: float) -> None:
            nonlocal before
            now = perf_counter()
            self._newest, before = now - before, now
            self._seconds.append(self._newest)
            self._report(step, loss, rate(step), loads)

        try:
            for step, layer in engine.train(first, last, on_step):
                what = f"skipped the batch of step {step}: non-finite gradient"
                self._reports.warn(f"{layer}: {what}")
        finally:
            self._reports.steps_done()

    def _report(self, step: int, loss: float, rate: float, loads: list[dict[str, Any]]) -> None:
        done = step + 1
        new = done > self._recovery.furthest  # a repeated step has the same bits
        recovered = self._recovery.done(done)
        if recovered is not None:
            self._reports.emit(recovered)
        samples = done * self._samples
        if new:
            self._reports.step(done, loss)
        self._reports.emit(Progress(done, self._total, samples, loss, self.median_s, loads))
        if not isfinite(loss):
            self._note_skipped(step, loss)
            return
        self._skipped = 0
        if new and (done % self._log_every == 0 or done == self._total):
            self._reports.metrics(done, loss, rate, self._newest)

    def _note_skipped(self, step: int, loss: float) -> None:
        self._skipped += 1
        if self._skipped > _MOST_SKIPPED:
            raise TrainingFailed(f"{self._skipped} batches in a row have a loss of {loss}")
        self._reports.warn(f"skipped step {step}: its loss is {loss}")

    @property
    def median_s(self) -> float:
        """Return the median duration of the newest steps in seconds; 0 before the first."""
        return median(self._seconds[-_WINDOW:]) if self._seconds else 0.0
