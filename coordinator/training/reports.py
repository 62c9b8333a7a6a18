"""What a run tells: lines of metrics.jsonl, and events for whoever follows it."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordinator.job.resolve import Job
from coordinator.runs.recorder import Recorder
from coordinator.runs.run_folder import RunFolder

Emit = Callable[[str, dict[str, Any]], None]


class Reports:
    """Writes and tells; a line that the disk does not take yet is a warning."""

    def __init__(self, job: Job, folder: RunFolder, steps_per_epoch: int, emit: Emit) -> None:
        self._spec, self._folder, self.tell = job.spec, folder, emit
        self._steps_per_epoch = steps_per_epoch
        self._recorder: Recorder | None = None

    def begin(self, step: int) -> None:
        """Go on behind the lines of `step` and before. Raises OSError when they cannot be kept."""
        self.close()
        self._recorder = Recorder(self._folder, step)

    def close(self) -> None:
        """Bring all lines to the disk."""
        if self._recorder is not None:
            self._recorder.close()

    def warn(self, message: str) -> None:
        """Tell what does not end the run."""
        self.tell("warning", {"message": message})

    def workers(self, processes: Sequence[int]) -> None:
        """Tell which processes the run has, if it has any of its own."""
        if processes:
            self.tell("workers", {"processes": processes, "coordinator": os.getpid()})

    def recovered(self, step: int, seconds: float, repeated: int) -> None:
        """Tell that the run is as far as before a fault, or further."""
        message = f"recovered in {seconds:.1f} s; {repeated} step(s) are done again from {step}"
        values = {"seconds": seconds, "step": step, "repeated": repeated, "message": message}
        self.tell("recovered", values)

    def metrics(self, step: int, loss: float, lr: float, seconds: float) -> None:
        """Write and tell the loss of a step, and its speed."""
        speed = round(self._spec.batch_size / seconds, 1)
        values = {"loss": loss, "lr": lr, "samples_per_s": speed}
        self._write("train", step, values)
        self.tell("metrics", {"step": step, **values})

    def scores(self, kind: str, data: str, step: int, scores: Mapping[str, float]) -> None:
        """Write and tell an evaluation.

        kind: "evaluation", or "test" for what the run comes to; data: "validation" or "test".
        """
        epoch = step // self._steps_per_epoch
        self._write(kind, step, {"epoch": epoch, **scores})
        numbers = {"step": step, "epoch": epoch, "epochs": self._spec.epochs}
        self.tell("evaluation", {**numbers, "data": data, "scores": dict(scores)})

    def _write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        if self._recorder is not None:
            trouble = self._recorder.write(kind, step, values)
            if trouble:
                self.warn(trouble)
