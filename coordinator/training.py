"""The story of a run: segments of steps, an evaluation each epoch, checkpoints, a clean end."""

import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from coordinator.checkpoint import write_checkpoint
from coordinator.engine import Engine, evaluate
from coordinator.recorder import Recorder
from coordinator.resolve import Job, identity
from coordinator.run_folder import RunFolder
from coordinator.tracing import TraceRequest
from dfa_core import LearningRule, NonFiniteLoss, TrainingFailed
from dfa_tasks import Splits

Emit = Callable[[str, dict[str, Any]], None]

_SEGMENT_S = 1.0  # so long may a request to stop wait


class Training:
    """Runs a job on an engine, from a step to its end or to a stop."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        splits: Splits,
        rule: LearningRule,
        steps_per_epoch: int,
        folder: RunFolder,
        emit: Emit,
    ) -> None:
        self._job, self._engine, self._splits, self._rule = job, engine, splits, rule
        self._steps_per_epoch = steps_per_epoch
        self._total = job.spec.epochs * steps_per_epoch
        self._every = job.spec.checkpoint.every_steps or steps_per_epoch
        self._folder, self._emit = folder, emit
        self._stop = threading.Event()
        self._step_s: list[float] = []
        self._trace: TraceRequest | None = None
        self._scores: dict[str, float] = {}

    def stop(self) -> None:
        """Ask the run to save and end at the next segment boundary; from any thread."""
        self._stop.set()

    def timeline(self, request: TraceRequest) -> None:
        """Ask for a trace of the next steps; from any thread."""
        self._trace = request

    def run(self, step: int) -> dict[str, Any]:
        """Train from `step` on; return the run's summary.

        Raises NonFiniteLoss and other TrainingFailed with what to do next in their message.
        """
        start = step
        recorder = Recorder(self._folder, step)
        began = perf_counter()
        try:
            if step == 0:
                self._save(0)  # the folder takes checkpoints: known before hours are spent
            self._emit("training", {"step": step, "total": self._total})
            while step < self._total and not self._stop.is_set():
                step = self._segment(step, self._boundary(step), recorder)
                if step % self._steps_per_epoch == 0:
                    self._evaluate(step, recorder)
                if step % self._every == 0 or step == self._total:
                    self._save(step)
            if self._stop.is_set() and step < self._total and step % self._every:
                self._save(step)
            if not self._scores:
                self._evaluate(step, recorder)
        except NonFiniteLoss as error:
            where = self._engine.diagnosis()
            raise TrainingFailed(f"{error}{f', first seen in {where}' if where else ''}") from error
        finally:
            recorder.close()
            if self._trace is not None:
                self._trace.give_up("the run has ended")
        return self._summary(start, step, perf_counter() - began)

    def _boundary(self, step: int) -> int:
        """Return where the next segment ends: at an event, or after about a second."""
        length = 2 if not self._step_s else max(1, int(_SEGMENT_S / max(1e-9, self._median_s())))
        events = (step - step % n + n for n in (self._steps_per_epoch, self._every))
        return min(step + length, self._total, *events)

    def _segment(self, first: int, last: int, recorder: Recorder) -> int:
        before = perf_counter()

        def on_step(step: int, loss: float) -> None:
            nonlocal before
            now = perf_counter()
            seconds, before = now - before, now
            self._step_s.append(seconds)
            done = step + 1
            self._emit(
                "progress",
                {
                    "step": done,
                    "total": self._total,
                    "samples": done * self._job.spec.batch_size,
                    "loss": loss,
                    "step_s": self._median_s(),
                    "processes": loads,
                },
            )
            if done % self._job.spec.log_every == 0 or done == self._total:
                rate = self._rule.optimizer.rate(step)
                speed = round(self._job.spec.batch_size / seconds, 1)
                logged = {"loss": loss, "lr": rate, "samples_per_s": speed}
                recorder.write("train", done, logged)
                self._emit("metrics", {"step": done, **logged})

        loads = self._engine.loads()
        if self._trace is not None:
            request, self._trace = self._trace, None
            last = min(last, first + request.steps)
            request.answer(lambda: self._engine.train(first, last, on_step), self._engine)
        else:
            self._engine.train(first, last, on_step)
        return last

    def _evaluate(self, step: int, recorder: Recorder) -> None:
        self._scores = evaluate(self._engine, self._job.task, self._splits)
        epoch = step // self._steps_per_epoch
        recorder.write("evaluation", step, {"epoch": epoch, **self._scores})
        self._emit(
            "evaluation",
            {"step": step, "epoch": epoch, "epochs": self._job.spec.epochs, **self._scores},
        )

    def _save(self, step: int) -> None:
        keep, job = self._job.spec.checkpoint.keep, identity(self._job.spec)
        path = write_checkpoint(self._folder.checkpoints, step, job, self._engine.save, keep)
        self._emit("checkpoint", {"step": step, "path": str(path)})

    def _median_s(self) -> float:
        return median(self._step_s[-50:])

    def _summary(self, start: int, step: int, seconds: float) -> dict[str, Any]:
        step_s = self._median_s() if self._step_s else 0.0
        return {
            "steps": step,
            "finished": step >= self._total,
            "seconds": round(seconds, 3),
            "steps_this_time": step - start,
            "step_ms": round(step_s * 1e3, 4),
            "samples_per_s": round(self._job.spec.batch_size / step_s, 1) if step_s else 0.0,
            "metrics": self._scores,
            "processes": self._engine.report(),
        }
