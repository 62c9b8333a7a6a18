"""The story of a run: segments of steps, an evaluation each epoch, checkpoints, a clean end."""

import threading
from dataclasses import asdict, replace
from math import isfinite
from statistics import median
from time import perf_counter
from typing import Any

from coordinator.engine.base import Engine
from coordinator.engine.evaluation import evaluate
from coordinator.engine.loop import OnStep
from coordinator.engine.worker_group import PipelineBroken
from coordinator.job.resolve import Job, fingerprint
from coordinator.runs.checkpoint import Checkpoint, write_checkpoint
from coordinator.runs.early_stopping import EarlyStopping
from coordinator.runs.plateau import Plateau, next_plateau
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import (
    CheckpointWritten,
    Emit,
    FaultSeen,
    Progress,
    RateCut,
    RolledBack,
    TrainingStarted,
)
from coordinator.training.recovery import Recovery
from coordinator.training.reports import Reports
from coordinator.training.tracing import TraceRequest
from dfa_core import LearningRule, NonFiniteLoss, TrainingFailed
from dfa_tasks import Splits
from workers.state_files import NonFiniteWeights

_SEGMENT_S = 1.0  # so long may a request to stop wait
_MOST_SKIPPED = 100


class Training:
    """Runs a job on an engine, from a checkpoint to its end or to a stop, through all faults."""

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
        self._folder, self._reports = folder, Reports(job, folder, steps_per_epoch, emit)
        self._recovery = Recovery(job.spec.faults.recoveries)
        self._early = EarlyStopping(job.spec.stopping.metric, job.spec.stopping.patience)
        self._stop = threading.Event()
        self._step_s: list[float] = []
        self._trace: TraceRequest | None = None
        self._scores: dict[str, float] = {}
        self._cuts: tuple[int, ...] = ()
        self._plateau: Plateau | None = None
        self._rolled_back_to: Checkpoint | None = None
        self._saved = self._evaluated = -1  # at which step
        self._skipped = 0  # batches in a row

    def stop(self) -> None:
        """Ask the run to save and end at the next segment boundary; from any thread."""
        self._stop.set()

    def timeline(self, request: TraceRequest) -> None:
        """Ask for a trace of the next steps; from any thread."""
        self._trace = request

    def run(self, checkpoint: Checkpoint | None) -> dict[str, Any]:
        """Train on from a checkpoint, or from step 0; return the run's summary.

        Raises TrainingFailed, with what to do next in its message, OSError when the disk takes no
        checkpoint at the start or at the end.
        """
        began = perf_counter()
        try:
            start = step = self._begin(checkpoint)
            while True:
                try:
                    if self._over(step) or self._stop.is_set():
                        self._finish(step)
                        break
                    step = self._advance(step)
                except PipelineBroken as fault:
                    step = self._recover(fault)
                except (NonFiniteLoss, NonFiniteWeights) as fault:
                    step = self._roll_back(step, fault)
        finally:
            self._reports.close()
            if self._trace is not None:
                self._trace.give_up("the run has ended")
        return self._summary(start, step, perf_counter() - began)

    def _begin(self, checkpoint: Checkpoint | None) -> int:
        if checkpoint is not None:
            self._cuts, self._saved = checkpoint.cuts, checkpoint.step
            self._early.best, self._plateau = checkpoint.best, checkpoint.plateau
            self._rule = self._rule.cut_at(self._cuts)
        try:
            step = self._engine.start(checkpoint)
        except PipelineBroken as fault:
            step = self._recover(fault)
        self._recovery.begins(step)
        self._reports.begin(step)
        while step == 0 and self._saved < 0:
            try:
                self._save(0, must=True)  # that it can is known before hours are spent
            except PipelineBroken as fault:
                step = self._recover(fault)
        self._reports.workers(self._engine.processes())
        self._reports.emit(TrainingStarted(step, self._total))
        return step

    def _advance(self, step: int) -> int:
        """Train one segment, and do what is due at its end."""
        step = self._segment(step, self._boundary(step))
        if step % self._steps_per_epoch == 0:
            self._evaluate(step)
        if step % self._every == 0 and step < self._total:
            self._save(step, must=False)
        return step

    def _over(self, step: int) -> bool:
        return step >= self._total or self._early.over(step // self._steps_per_epoch)

    def _finish(self, step: int) -> None:
        """Save the end; where the run is over, take its best epoch's weights and test them."""
        self._save(step, must=True)
        if not self._scores:
            self._evaluate(step)
        if not self._over(step):
            return
        best, at = self._early.best, step
        if best is not None and best.step != step:
            at = best.step
            self._engine.start(self._folder.checkpoint(lambda c: c.step == at))
        if at != step or self._splits.validation is not None:
            self._scores = evaluate(self._engine, self._job.task, self._splits.test)
            self._reports.scores("test", "test", at, self._scores)

    def _recover(self, fault: PipelineBroken) -> int:
        """Have lost workers replaced; return the step to go on from."""
        while True:
            wait_s = self._recovery.fault(fault)
            self._reports.emit(FaultSeen(str(fault)))
            self._stop.wait(wait_s)
            try:
                step = self._engine.recover(fault.lost, self._newest())
                break
            except PipelineBroken as another:
                fault = another
        self._recovery.goes_on_from(step)
        self._reports.workers(self._engine.processes())
        return step

    def _newest(self) -> Checkpoint | None:
        """Return the newest checkpoint of the present course of the run."""
        found = self._folder.checkpoint(lambda c: c.cuts == self._cuts)
        return found or self._rolled_back_to

    def _roll_back(self, step: int, fault: NonFiniteLoss | NonFiniteWeights) -> int:
        """Go back to a checkpoint and lower the rate, if that is the job's policy.

        To one at a multiple of the steps between checkpoints: others depend on when the run was
        interrupted, and what the run comes to must not.
        """
        where = self._engine.diagnosis() if isinstance(fault, NonFiniteLoss) else None
        what = f"{fault}{f', first seen in {where}' if where else ''}"
        if self._job.settings.faults.non_finite != "roll_back":
            raise TrainingFailed(what) from fault
        at = fault.step if isinstance(fault, NonFiniteLoss) else step
        self._recovery.non_finite(at, TrainingFailed(what))
        target = self._folder.checkpoint(lambda c: c.step % self._every == 0 and c.step <= at)
        if target is None:
            raise TrainingFailed(f"{what}; there is no checkpoint to go back to") from fault
        kept = (cut for cut in self._cuts if cut <= target.step)  # the others are of no more course
        self._cuts = (*kept, target.step)
        self._rule = self._rule.cut_at(self._cuts)
        self._rolled_back_to = replace(target, cuts=self._cuts)
        self._folder.forget_behind(target.step)
        self._saved = self._evaluated = target.step
        self._early.best, self._plateau = target.best, target.plateau
        self._recovery.begins(target.step)
        try:
            step = self._engine.start(self._rolled_back_to)
        except PipelineBroken as broken:
            step = self._recover(broken)
        self._reports.begin(target.step)
        rate = self._rule.optimizer.rate(target.step)
        self._reports.emit(RolledBack(target.step, rate, what))
        return step

    def _boundary(self, step: int) -> int:
        """Return where the next segment ends: at an event, or after about a second."""
        length = 2 if not self._step_s else max(1, int(_SEGMENT_S / max(1e-9, self._median_s())))
        length = max(length, self._trace.steps if self._trace else 0)
        events = (step - step % n + n for n in (self._steps_per_epoch, self._every))
        return min(step + length, self._total, *events)

    def _segment(self, first: int, last: int) -> int:
        before = perf_counter()

        def on_step(step: int, loss: float) -> None:
            nonlocal before
            now = perf_counter()
            seconds, before = now - before, now
            self._step_s.append(seconds)
            done = step + 1
            new = done > self._recovery.furthest  # else it was told before, with the same bits
            self._note_done(done)
            samples = done * self._job.spec.batch_size
            self._reports.emit(Progress(done, self._total, samples, loss, self._median_s(), loads))
            self._skipped = 0 if isfinite(loss) else self._skipped + 1
            if self._skipped > _MOST_SKIPPED:
                raise TrainingFailed(f"{self._skipped} batches in a row have a loss of {loss}")
            if not isfinite(loss):
                self._reports.warn(f"the loss is {loss} at step {step}: its batch changed nothing")
            elif new and (done % self._job.spec.log_every == 0 or done == self._total):
                self._reports.metrics(done, loss, self._rule.optimizer.rate(step), seconds)

        loads = self._engine.loads()
        request, longest = self._trace, min(self._steps_per_epoch, self._every)
        traced = request.end(first, last, longest, self._total) if request else None
        if request is None or traced is None:
            self._train(first, last, on_step)
            return last
        self._trace = None
        request.answer(lambda: self._train(first, traced, on_step), self._engine)
        return traced

    def _train(self, first: int, last: int, on_step: OnStep) -> None:
        for step, layer in self._engine.train(first, last, on_step):
            self._reports.warn(
                f"{layer}: the batch of step {step} changed nothing, for it is not finite there"
            )

    def _note_done(self, done: int) -> None:
        recovered = self._recovery.done(done)
        if recovered is not None:
            self._reports.emit(recovered)

    def _evaluate(self, step: int) -> None:
        chosen = self._splits.validation
        data = self._splits.test if chosen is None else chosen
        self._scores = evaluate(self._engine, self._job.task, data)
        if step <= self._evaluated:
            return
        self._evaluated = step
        epoch = step // self._steps_per_epoch
        kind = "test" if chosen is None else "validation"
        self._reports.scores("evaluation", kind, step, self._scores)
        whole = step % self._steps_per_epoch == 0  # else it depends on when the run was interrupted
        better = self._early.better(step, epoch, self._scores) if whole else None
        if better is not None:
            before, self._early.best = self._early.best, better
            if not self._save(step, must=False):
                self._early.best = before
        if whole and self._rule.optimizer.schedule == "plateau":
            self._watch(step, epoch, self._scores["loss"])

    def _watch(self, step: int, epoch: int, loss: float) -> None:
        """Cut the learning rate from here on, where the loss has not fallen for so long."""
        patience = self._job.spec.optimizer.patience
        self._plateau, cut = next_plateau(self._plateau, epoch, loss, patience)
        if not cut or step >= self._total:
            return
        self._cuts = (*self._cuts, step)
        self._rule = self._rule.cut_at(self._cuts)
        self._saved = -1  # what was saved of this step does not have the cut
        self._save(step, must=True)
        self._engine.start(self._newest())
        rate = self._rule.optimizer.rate(step)
        self._reports.emit(RateCut(step, rate, self._plateau.loss))

    def _save(self, step: int, must: bool) -> bool:
        """Write a checkpoint; a disk that does not take it ends the run only where it must.

        Returns whether there is one of this step now.
        """
        if step == self._saved:
            return True
        keep, job = self._job.spec.checkpoint.keep, fingerprint(self._job.spec)
        folder, cuts = self._folder.checkpoints, self._cuts
        try:
            best = self._early.best
            path = write_checkpoint(
                folder, step, job, cuts, self._engine.save, keep, best, self._plateau
            )
        except OSError as error:
            if must:
                raise
            message = (
                f"the checkpoint of step {step} was not written: {error}; the run goes on, its "
                f"newest checkpoint is of step {self._saved}"
            )
            self._reports.warn(message)
            return False
        self._saved = step
        self._reports.emit(CheckpointWritten(step, str(path)))
        return True

    def _median_s(self) -> float:
        return median(self._step_s[-50:])

    def _summary(self, start: int, step: int, seconds: float) -> dict[str, Any]:
        taken, share = self._engine.snapshot_cost()
        step_s = self._median_s() if self._step_s else 0.0
        return {
            "steps": step,
            "finished": self._over(step),
            "best": asdict(self._early.best) if self._early.best else None,
            "seconds": round(seconds, 3),
            "steps_this_time": step - start,
            "step_ms": round(step_s * 1e3, 4),
            "samples_per_s": round(self._job.spec.batch_size / step_s, 1) if step_s else 0.0,
            "metrics": self._scores,
            "processes": self._engine.report(),
            "faults": {
                "recovered": self._recovery.faults,
                "seconds_lost": round(self._recovery.seconds_lost, 3),
                "steps_repeated": self._recovery.steps_repeated,
            },
            "snapshots": {"taken": taken, "share_of_step": round(share, 5)},
        }
