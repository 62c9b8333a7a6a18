"""What a run reports: lines of metrics.jsonl, and events for those who follow it."""

import os
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from coordinator.job.resolve import Job
from coordinator.runs.recorder import Recorder
from coordinator.training.callbacks import Callbacks
from coordinator.training.events import (
    CheckpointWritten,
    Emit,
    Evaluation,
    Metrics,
    Warned,
    WorkersStarted,
)


class Reports:
    """Writes lines and emits events; a line that the disk does not take yet is a warning."""

    def __init__(
        self,
        job: Job,
        recorder: Recorder,
        callbacks: Callbacks,
        steps_per_epoch: int,
        emit: Emit,
    ) -> None:
        self._settings, self.emit = job.settings, emit
        self._recorder, self._callbacks = recorder, callbacks
        self._steps_per_epoch = steps_per_epoch
        self._nan_reported = False

    def begin(self, step: int) -> None:
        """Keep the lines up to `step` and drop later ones. Raises OSError when that fails."""
        self._recorder.begin(step)

    def close(self) -> None:
        """Write all lines to the disk."""
        self._recorder.close()

    def warn(self, message: str) -> None:
        """Report a problem that does not end the run."""
        self.emit(Warned(message))

    def workers(self, processes: Sequence[int]) -> None:
        """Report the process ids, if the run has workers."""
        if processes:
            self.emit(WorkersStarted(processes, os.getpid()))

    def step(self, step: int, loss: float) -> None:
        """Note a new step for the callbacks; steps_done() reports it to them."""
        self._callbacks.note_step(step, loss)

    def steps_done(self) -> None:
        """Report the noted steps to the callbacks, now that no worker computes."""
        self._callbacks.steps()

    def checkpoint(self, step: int, path: str, settled: bool) -> None:
        """Report a checkpoint; settled: no roll-back goes to a step before it."""
        self.emit(CheckpointWritten(step, path))
        if settled:
            self._recorder.settled(step)
        self._callbacks.checkpoint(step, path)

    def metrics(self, step: int, loss: float, lr: float, seconds: float) -> None:
        """Write and report the loss after `step` steps; seconds: the duration of the last one."""
        speed = round(self._settings.batch_size / seconds, 1)
        values = {"loss": loss, "lr": lr, "samples_per_s": speed}
        self._write("train", step, values)
        self.emit(Metrics(step, **values))

    def scores(self, kind: str, data: str, step: int, scores: Mapping[str, float]) -> None:
        """Write and report an evaluation.

        kind: "evaluation", or "test" for the result of the run; data: "validation" or "test".
        """
        epoch = step // self._steps_per_epoch
        self._write(kind, step, {"epoch": epoch, **scores})
        self.emit(Evaluation(step, epoch, self._settings.epochs, data, dict(scores)))
        if kind == "evaluation":
            self._callbacks.evaluation(step, scores)
        metric = self._settings.stopping.metric
        if isnan(scores.get(metric, 0.0)) and not self._nan_reported:
            self._nan_reported = True
            self.warn(
                f"stopping.metric: {metric} is NaN after epoch {epoch}, which counts as an epoch "
                f"without an improvement"
            )

    def _write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        trouble = self._recorder.write(kind, step, values)
        if trouble:
            self.warn(trouble)
