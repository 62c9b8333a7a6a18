"""The story of a run: segments of steps, an evaluation each epoch, checkpoints, a clean end."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from coordinator.engine.base import Engine
from coordinator.engine.evaluation import Evaluation
from coordinator.engine.worker_group import PipelineBroken
from coordinator.job.resolve import Job, fingerprint
from coordinator.runs.checkpoint import Checkpoint, write_checkpoint
from coordinator.runs.early_stopping import EarlyStopping
from coordinator.runs.plateau import next_plateau
from coordinator.runs.recorder import Recorder
from coordinator.runs.run_folder import RunFolder
from coordinator.runs.state import RunState
from coordinator.runs.trackers.tracker import Tracker
from coordinator.training.callbacks import Callbacks
from coordinator.training.events import (
    Emit,
    FaultSeen,
    RateCut,
    Resumed,
    RolledBack,
    TrainingStarted,
)
from coordinator.training.recovery import Recovery
from coordinator.training.reports import Reports
from coordinator.training.segments import Segments
from coordinator.training.steps import StepLog
from coordinator.training.summary import costs, speed, summary
from coordinator.training.tracing import TraceRequest
from dfa_core import LearningRule, NonFiniteLoss, TrainingFailed
from dfa_tasks import Splits
from dfa_tasks.stream import Stream
from workers.state_files import DamagedFile, NonFiniteWeights


class Trainer:
    """Runs a job on an engine, from its newest checkpoint to its end, through all faults."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        splits: Splits,
        rule: LearningRule,
        steps_per_epoch: int,
        folder: RunFolder,
        emit: Emit,
        stream: Stream | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """tracker: gets all that the run logs, in addition to its own files.

        stream: the training data, where they are read in order: checkpoints hold its state.
        """
        self._job, self._engine, self._splits, self._rule = job, engine, splits, rule
        self._steps_per_epoch = steps_per_epoch
        self._total = job.settings.epochs * steps_per_epoch
        self._every = job.settings.checkpoint.every_steps or steps_per_epoch
        self._folder, self._callbacks = folder, Callbacks(job.task.callbacks)
        recorder = Recorder(folder, tracker)
        self._reports = Reports(job, recorder, self._callbacks, steps_per_epoch, emit)
        self._recovery = Recovery(job.settings.faults.recoveries)
        self._steps = StepLog(job, self._total, self._recovery, self._reports)
        self._segments = Segments(self._steps, self._total, (steps_per_epoch, self._every))
        self._early = EarlyStopping(job.settings.stopping.metric, job.settings.stopping.patience)
        self._stop = threading.Event()
        self._state = RunState()
        self._stream = stream
        self._evaluation = Evaluation(engine, job.task, rule.seed)
        self._scores: dict[str, float] = {}
        self._saved = self._evaluated = -1  # the steps of the newest checkpoint and evaluation
        self._damages: set[str] = set()  # of checkpoints, that were reported

    def stop(self) -> None:
        """Ask the run to save and end at the next segment boundary; from any thread."""
        self._stop.set()

    def timeline(self, request: TraceRequest) -> None:
        """Ask for a trace of the next steps; from any thread."""
        self._segments.timeline(request)

    def run(self) -> dict[str, Any]:
        """Train from the newest checkpoint, or from step 0; return the run's summary.

        Raises JobError when all checkpoints are damaged at the start, TrainingFailed when the run
        cannot continue, OSError when the first or the last checkpoint cannot be written.
        """
        began = perf_counter()
        try:
            self._begin()
            start = self._state.step
            try:
                self._train()
            except DamagedFile as damage:  # a fault of this run, not of the job as it was given
                raise TrainingFailed(str(damage)) from damage
        finally:
            self._reports.close()
            self._segments.close()
        if self._callbacks.failure:
            raise TrainingFailed(self._callbacks.failure)
        return self._summary(start, perf_counter() - began)

    def _begin(self) -> None:
        try:
            self._load(self._resume)
        except PipelineBroken as fault:
            self._recover(fault)
        step = self._state.step
        self._recovery.begins(step)
        self._reports.begin(step)
        if self._saved >= 0:
            self._reports.emit(Resumed(step))
        while self._saved < 0:
            try:
                self._save(self._state, must=True)  # a full disk shows before hours are spent
            except PipelineBroken as fault:
                self._recover(fault)
        self._reports.workers(self._engine.processes())
        self._reports.emit(TrainingStarted(self._state.step, self._total))

    def _resume(self, checkpoint: Checkpoint | None) -> int:
        if checkpoint is not None:
            self._state, self._saved = checkpoint.state, checkpoint.step
        return self._engine.start(checkpoint)

    def _train(self) -> None:
        """Train until the run is over or is stopped, through all faults."""
        while True:
            try:
                if self._over() or self._stop.is_set() or self._callbacks.failure:
                    self._finish()
                    return
                self._advance()
            except PipelineBroken as fault:
                self._recover(fault)
            except (NonFiniteLoss, NonFiniteWeights) as fault:
                self._roll_back(fault)

    def _advance(self) -> None:
        """Train one segment, and do what is due at its end."""
        step = self._segments.train(self._engine, self._state.step, self._rate)
        self._state = replace(self._state, step=step)
        if step % self._steps_per_epoch == 0:
            self._evaluate()
        if step % self._every == 0 and step < self._total:
            self._save(self._state, must=False)

    def _over(self) -> bool:
        step = self._state.step
        ended = step >= self._total or bool(self._callbacks.stopped_by)
        return ended or self._early.over(self._state.best, step // self._steps_per_epoch)

    def _finish(self) -> None:
        """Save the state; if the run is over, load and test the weights of its best epoch."""
        step = self._state.step
        self._save(self._state, must=True)
        if not self._scores or (self._over() and self._evaluated != step):
            self._evaluate()
        if not self._over():
            return
        best, at = self._state.best, step
        if best is not None and best.step != step:
            at = best.step
            self._folder.load(self._engine.start, lambda c: c.step == at)
        if at != step or self._splits.validation is not None:
            self._scores = self._evaluation.scores(self._splits.test, "test")
            self._reports.scores("test", "test", at, self._scores)

    def _load(
        self,
        load: Callable[[Checkpoint | None], int],
        counts: Callable[[Checkpoint], bool] = lambda _: True,
    ) -> None:
        """Load the newest checkpoint that is not damaged; report those that are."""

        def reporting(checkpoint: Checkpoint | None) -> int:
            for damage in self._folder.skipped:
                if damage not in self._damages:
                    self._damages.add(damage)
                    self._reports.warn(f"{damage}; the checkpoint before it is used")
            if self._stream is not None and checkpoint is not None:
                self._stream.resume(checkpoint.step, checkpoint.state.data)
            return load(checkpoint)

        step = self._folder.load(reporting, counts)
        self._state = replace(self._state, step=step)

    def _recover(self, fault: PipelineBroken) -> None:
        """Replace the lost workers, and go back to the newest snapshot or checkpoint."""
        while True:
            wait_s = self._recovery.fault(fault)
            self._reports.emit(FaultSeen(str(fault)))
            self._stop.wait(wait_s)
            try:
                self._load(partial(self._restore, fault.lost))
                break
            except PipelineBroken as another:
                fault = another
        self._recovery.goes_on_from(self._state.step)
        self._reports.workers(self._engine.processes())

    def _restore(self, lost: tuple[int, ...], checkpoint: Checkpoint | None) -> int:
        """Have the engine recover, from the checkpoint if no newer snapshot serves.

        Where a snapshot serves, the state stays as it is: deciding again after repeated steps
        changes nothing.
        """
        if checkpoint is None:
            return self._engine.recover(lost, None)
        # a checkpoint that the run was rolled back to lacks the cut at its own step
        cuts = tuple(cut for cut in self._state.cuts if cut <= checkpoint.step)
        checkpoint = replace(checkpoint, state=replace(checkpoint.state, cuts=cuts))
        step = self._engine.recover(lost, checkpoint)
        if step == checkpoint.step:
            self._state, self._saved = checkpoint.state, step
        return step

    def _roll_back(self, fault: NonFiniteLoss | NonFiniteWeights) -> None:
        """Go back to a checkpoint and lower the rate, if that is the job's policy.

        The checkpoint is at a multiple of the steps between checkpoints: the steps of others depend
        on when the run was interrupted, and the result of a run must not.
        """
        where = self._engine.diagnosis() if isinstance(fault, NonFiniteLoss) else None
        reason = f"{fault}{f', first seen in {where}' if where else ''}"
        if self._job.settings.faults.non_finite != "roll_back":
            raise TrainingFailed(reason) from fault
        at = fault.step if isinstance(fault, NonFiniteLoss) else self._state.step
        self._recovery.non_finite(at, TrainingFailed(reason))

        def go_back(target: Checkpoint | None) -> int:
            if target is None:
                raise TrainingFailed(f"{reason}; there is no checkpoint to go back to") from fault
            return self._engine.start(self._lowered(target))

        try:
            self._load(go_back, lambda c: c.step % self._every == 0 and c.step <= at)
        except PipelineBroken as broken:
            self._recover(broken)
        step = self._saved
        self._reports.begin(step)
        self._reports.emit(RolledBack(step, self._rate(step), reason))

    def _lowered(self, target: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the learning rate cut at its step, and forget what follows."""
        kept = (cut for cut in self._state.cuts if cut <= target.step)
        self._state = replace(target.state, cuts=(*kept, target.step))
        self._folder.remove_after(target.step)
        self._saved = self._evaluated = target.step
        self._recovery.begins(target.step)
        return replace(target, state=self._state)

    def _rate(self, step: int) -> float:
        return self._rule.cut_at(self._state.cuts).optimizer.rate(step)

    def _evaluate(self) -> None:
        """Evaluate; at the end of an epoch decide what follows from it."""
        step = self._state.step
        chosen = self._splits.validation
        data, part = (self._splits.test, "test") if chosen is None else (chosen, "validation")
        self._scores = self._evaluation.scores(data, part)
        new = step > self._evaluated
        if new:
            self._evaluated = step
            self._reports.scores("evaluation", part, step, self._scores)
        if step % self._steps_per_epoch == 0:  # others depend on when the run was interrupted
            self._decide(new)

    def _decide(self, new: bool) -> None:
        """Choose the best epoch and cut the learning rate, as the evaluation says.

        All of it is decided before a checkpoint of this step is written. Deciding again after a
        fault changes nothing; new: whether to report a cut.
        """
        before, step = self._state, self._state.step
        after, epoch = before, step // self._steps_per_epoch
        if self._rule.optimizer.schedule == "plateau":
            loss, patience = self._scores["loss"], self._job.settings.optimizer.patience
            plateau, cut = next_plateau(before.plateau, epoch, loss, patience)
            after = replace(after, plateau=plateau)
            if cut:  # also at the end: the run may be resumed with more epochs
                after = replace(after, cuts=(*before.cuts, step))
        best = self._early.better(before.best, step, epoch, self._scores)
        if best is not None and self._save(replace(after, best=best), must=False):
            after = replace(after, best=best)
        self._state = after
        if after.cuts != before.cuts and after.plateau is not None and step < self._total:
            if new:
                self._reports.emit(RateCut(step, self._rate(step), after.plateau.loss))
            self._engine.set_cuts(after.cuts)

    def _save(self, state: RunState, must: bool) -> bool:
        """Write a checkpoint, unless there is one of this step; return whether there is one now.

        A write that fails ends the run only if it `must` succeed.
        """
        if state.step == self._saved:
            return True
        if self._stream is not None:
            state = replace(state, data=self._stream.state(state.step))
        keep, job = self._job.settings.checkpoint.keep, fingerprint(self._job.spec)
        folder, save = self._folder, self._engine.save
        try:
            path = write_checkpoint(folder.checkpoints, state, job, save, keep, folder.origin)
        except OSError as error:
            if must:
                raise
            self._reports.warn(
                f"the checkpoint of step {state.step} was not written: {error}; the run continues, "
                f"its newest checkpoint is of step {self._saved}"
            )
            return False
        self._saved = state.step
        self._reports.checkpoint(state.step, str(path), state.step % self._every == 0)
        return True

    def _summary(self, start: int, seconds: float) -> dict[str, Any]:
        state, finished = self._state, self._over()
        engine, recovery, batch_size = self._engine, self._recovery, self._job.settings.batch_size
        of_run = summary(state, start, finished, seconds, self._scores)
        if self._callbacks.stopped_by:
            of_run["stopped_by"] = self._callbacks.stopped_by
        return of_run | speed(self._steps.median_s, batch_size) | costs(engine, recovery, seconds)
