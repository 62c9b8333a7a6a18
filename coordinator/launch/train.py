"""`train(task, blocks=2, ...)`: what the command line does, from Python and notebooks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import ray
import safetensors.torch
from ray.exceptions import GetTimeoutError, RayActorError

from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import merge, to_settings
from coordinator.job.user_code import pack
from coordinator.launch.interrupts import noted_interrupts
from coordinator.launch.notebook.cell import shown_in
from coordinator.launch.notebook.kernel import Cell, calling_cell, interrupts_of_awaiting_cell
from coordinator.launch.notebook.live_curve import LiveCurve
from coordinator.launch.ray_session import one_own_ray_at_a_time, ray_for
from coordinator.runs.curves import draw_curves
from coordinator.runs.folders import new_folder
from coordinator.runs.run_folder import Begin, RunFolder
from coordinator.runs.trackers.choice import tracker_environment
from coordinator.training.actor import training_actor
from coordinator.training.events import (
    Event,
    Failed,
    FaultSeen,
    Finished,
    Progress,
    TrainingStarted,
)
from coordinator.training.recovery import Recovery
from dfa_core import Chain, JobError, TrainingFailed
from dfa_tasks import Callback, Task
from workers.life.sign import RunningClock, computes
from workers.payload import PickledPayload

_POLL_S = 0.2
_START_S = 120.0  # its imports take that long where the machine has no CPU to spare


class Viewer(Protocol):
    """Shows a run to whoever waits for it."""

    def event(self, event: Event) -> None:
        """Show an event; coordinator/training/events.py lists them."""

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""


@dataclass(frozen=True)
class Run:
    """A run that has finished or was stopped.

    folder: the run folder.
    job: the job with all its settings, and its task.
    summary: what result.json holds: steps, step_ms, samples_per_s, and for each process its busy
        and waiting shares of the time and the bytes that it sent.
    """

    folder: Path
    job: Job = field(repr=False)  # a notebook prints the last value of a cell
    summary: Mapping[str, Any] = field(repr=False)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the scores of the last evaluation: "loss" and the task's own metrics."""
        metrics: Mapping[str, float] = self.summary["metrics"]
        return metrics

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Return all logged losses and evaluations: the lines of metrics.jsonl, as dictionaries."""
        return RunFolder(self.folder).curve()

    @property
    def model(self) -> Chain:
        """Build the trained model in evaluation mode: its layers, then the head, as one module."""
        model, seed = self.job.model, self.job.settings.seed
        parts = [model.build_layer(i, seed) for i in range(len(model.layers))]
        weights = safetensors.torch.load_file(RunFolder(self.folder).model)
        for index, part in enumerate([*parts, model.build_head(seed)]):
            prefix = f"layers.{index}." if index < len(parts) else "head."
            part.load_state_dict(
                {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            )
            if index == len(parts):
                parts.append(part)
        return Chain(*parts).eval()


def train(
    task: str | Task,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    ray_address: str | None = None,
    viewer: Viewer | Literal["notebook"] | None = "notebook",
    profile: int = 0,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train a task, one layer block in each Ray actor, and return the run.

    task: name of an installed task, `file.py:function`, or a Task.
    run_dir: folder of the run; by default a new one under runs/.
    resume: continue from the newest checkpoint in run_dir, or in the folder or URL that
        checkpoint["path"] names.
    ray_address: address of a Ray cluster to join; by default a new Ray is started for the run.
    viewer: shows the run; None shows it to nobody. "notebook": draws a picture of the curves in the
        cell of a Jupyter notebook, which moves while it trains; elsewhere it shows nothing.
    profile: number of steps that torch's profiler records in every process; they are written to
        profile.json.gz in the run folder.
    callbacks: your own code that the run calls, after the callbacks of the task. They are pickled,
        and called in the coordinator's process. What they gather stays there, so write it to a file
        if you need it later.
    settings: fields of the job, such as blocks=2, epochs=8, optimizer={"lr": 0.001}.

    Raises JobError for a job that cannot run as given, TrainingFailed for one that failed after its
    start (what was saved stays), and KeyboardInterrupt when it was interrupted twice.
    """
    cell = calling_cell() if viewer == "notebook" else None
    given = RunFolder(Path(run_dir).expanduser().absolute()) if run_dir else None
    if resume and ((given is not None and given.job.exists()) or "checkpoint" not in settings):
        if given is None:
            raise JobError("--resume: which run? name its folder with --run-dir")
        settings = merge(to_settings(given.spec()), settings)
        settings.pop("task", None)
    job = resolve(task, settings)
    if callbacks:
        every = (*job.task.callbacks, *callbacks)
        job = replace(job, task=replace(job.task, callbacks=every))
    begin: Begin = "resume" if resume else "new"
    if given is not None:
        given.look(job.spec, begin)  # a look now is quicker; the one that counts is the actor's
    if job.task.fetch is not None:
        job.task.fetch()
    payload = pack(job.task, job.settings.working_dir)
    folder = given or RunFolder(new_folder(_stem(task)))
    resources = job.settings.resources
    with (
        _shown(viewer, cell, job, folder) as shown,
        interrupts_of_awaiting_cell() as noted,
        one_own_ray_at_a_time(),
        ray_for(len(job.grid), resources.cpus, ray_address),
    ):
        summary = _run(job, payload, folder, begin, shown, profile, noted)
    draw_curves(folder.curve(), folder.curves, title=_title(job))
    return Run(folder.path, job, summary)


def _shown(
    viewer: Viewer | Literal["notebook"] | None, cell: Cell | None, job: Job, folder: RunFolder
) -> AbstractContextManager[Viewer | None]:
    """Return the viewer that was asked for, for as long as the run takes."""
    if cell is not None:
        return shown_in(
            cell, LiveCurve(_title(job), job.settings.epochs, folder.curve()), folder.path
        )
    return nullcontext(None if viewer == "notebook" else viewer)


class _CoordinatorDied(TrainingFailed):
    """The process of the training actor is gone."""


def _run(
    job: Job,
    payload: PickledPayload,
    folder: RunFolder,
    begin: Begin,
    viewer: Viewer | None,
    profile: int,
    noted: list[int],
) -> Mapping[str, Any]:
    """Run the job to its end in a training actor; start a new actor when one dies.

    Only the actor writes to the folder, under the folder's lock. noted: interrupts by now.
    """
    recovery = Recovery(job.settings.faults.recoveries)
    packed, spec = ray.put(payload), job.spec.SerializeToString()
    environment = tracker_environment(job.settings.trackers, folder)
    timeout_s = job.settings.resources.timeout_s
    with noted_interrupts(noted):
        while True:
            actor = training_actor(job.settings.resources.coordinator_gpus)
            try:
                arguments = (packed, spec, folder.path, begin, profile, environment)
                actor.run.remote(*arguments)
                begin = "either"  # the next actor continues from what this one has saved, if any
                for event in _follow(actor, viewer, recovery, noted, timeout_s):
                    summary = _ended(event)
                    if summary is not None:
                        return summary
            except _CoordinatorDied as error:
                try:
                    wait_s = recovery.fault(error)
                except TrainingFailed as failure:
                    raise TrainingFailed(f"{failure}; continue with --resume") from error
                _show(viewer, FaultSeen(str(error)))
                time.sleep(wait_s)
            finally:
                ray.kill(actor)


def _follow(
    actor: Any, viewer: Viewer | None, recovery: Recovery, noted: list[int], timeout_s: float
) -> Iterator[Event]:
    """Yield the actor's events; the first Ctrl-C asks it to stop, the second leaves it."""
    seen, asked, ended, process = 0, False, False, _started(actor)
    while not ended:
        if noted and not asked:
            asked = True
            actor.stop.remote()
        events, progress = _answer(actor.follow.remote(seen, _POLL_S), process, timeout_s)
        seen += len(events)
        for event in events:
            if isinstance(event, TrainingStarted):
                recovery.goes_on_from(event.step)
        if progress is not None:
            _note(viewer, recovery, progress)
        for event in events:
            _show(viewer, event)
            yield event
            ended = isinstance(event, Finished | Failed)


def _started(actor: Any) -> int:
    """Wait until the actor's process has started; return its id. Raises _CoordinatorDied."""
    try:
        process: int = ray.get(actor.process.remote(), timeout=_START_S)
    except RayActorError as error:
        raise _CoordinatorDied("the coordinator's process died") from error
    except GetTimeoutError as error:
        raise _CoordinatorDied(
            f"the coordinator's process did not start within {_START_S:g} s"
        ) from error
    return process


def _answer(call: Any, process: int, timeout_s: float) -> tuple[list[Event], Progress | None]:
    """Return an answer of the actor, which gives it on a thread of its own while it works.

    Raises _CoordinatorDied where its process died, or neither answers nor computes.
    """
    clock, heard = RunningClock(2 * _POLL_S), 0.0
    while not ray.wait([call], timeout=_POLL_S)[0]:
        now = clock.now()
        if now - heard > timeout_s:
            if not computes(process):
                raise _CoordinatorDied(
                    f"the coordinator's process hangs: no sign of life for {timeout_s:g} s"
                )
            heard = now
    try:
        answer: tuple[list[Event], Progress | None] = ray.get(call)
    except RayActorError as error:
        raise _CoordinatorDied("the coordinator's process died") from error
    return answer


def _note(viewer: Viewer | None, recovery: Recovery, progress: Progress) -> None:
    recovered = recovery.done(progress.step)
    if recovered is not None:
        _show(viewer, recovered)
    if viewer is not None:
        viewer.progress(progress)


def _show(viewer: Viewer | None, event: Event) -> None:
    if viewer is not None:
        viewer.event(event)


def _ended(event: Event) -> Mapping[str, Any] | None:
    """Return the summary of a run that ended well, None while it runs.

    Raises JobError or TrainingFailed, with the actor's traceback as a note, for one that failed.
    """
    match event:
        case Finished(summary):
            return summary
        case Failed(message, job_is_wrong, traceback):
            failure = JobError(message) if job_is_wrong else TrainingFailed(message)
            failure.add_note(traceback)
            raise failure
    return None


def _stem(task: str | Task) -> str:
    name = task if isinstance(task, str) else task.name
    return Path(name.rpartition(":")[2] or name).stem


def _title(job: Job) -> str:
    settings = job.settings
    each = f"{settings.blocks} block{'s' * (settings.blocks > 1)}"
    each += f" + {settings.heads} heads" if settings.heads else ""
    if settings.replicas > 1:
        each = (
            f"({each}) x {settings.replicas} replicas"
            if settings.heads
            else (f"{each} x {settings.replicas} replicas")
        )
    return f"{job.task.name}, {job.method}, {each}"
