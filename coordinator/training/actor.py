"""The training actor: rank 0 of a job, with its data, head and loss, in a Ray actor of its own."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

import ray
import torch
from errorcast.v1.job_pb2 import JobSpec
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import check_parts
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.trials import DataTrials
from coordinator.engine.waits import Waits
from coordinator.job.resolve import Job, resolve_spec
from coordinator.job.settings import decode
from coordinator.job.user_code import pack
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import Begin, RunFolder
from coordinator.training.before_step_0 import (
    packed_metrics,
    packed_shares,
    plan_for,
    start_workers,
    training_source,
)
from coordinator.training.events import (
    Event,
    Failed,
    Finished,
    LinksAreSlow,
    PlanMade,
    Progress,
    Waiting,
    Warned,
)
from coordinator.training.first_weights import model_to_start_with
from coordinator.training.profile import profile_of
from coordinator.training.throughput import throughput
from coordinator.training.tracing import TraceRequest
from coordinator.training.tracked import tracked
from coordinator.training.trainer import Trainer
from dfa_core import Head, JobError, LearningRule, TrainingFailed
from dfa_tasks.stream import Stream
from workers.gpu import device_here, gpu_here, gpus_of_this_node
from workers.groups.transport import choose, describe_links
from workers.machine.python_warnings import PythonWarnings
from workers.payload import PickledPayload
from workers.placement import Placement, rendezvous_host
from workers.trace import Span

_AT_ONCE = 500  # events in one answer


class TrainingWork:
    """Runs one job; who started it follows its events and can ask it to stop."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._progress: Progress | None = None
        self._trainer: Trainer | None = None
        self._thread: threading.Thread | None = None
        self._run_dir: Path | None = None
        self._warnings = PythonWarnings(lambda warning: self._emit(Warned(str(warning))))
        self._stopped, self._profiled = False, 0
        if threading.current_thread() is threading.main_thread():  # as Ray makes actors
            signal.signal(signal.SIGTERM, lambda *_: self.stop())  # a notice of preemption: save

    def warm(self) -> bool:
        """Import now what the first gradient imports; return whether the actor had no job yet."""
        torch.autograd.backward(torch.ones(1, requires_grad=True))
        return self._thread is None

    def begin(
        self,
        spec: bytes,
        run_dir: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
        folders: Sequence[str] = (),
    ) -> None:
        """Start to run the task that the spec names, and return; a second call changes nothing.

        On a thread of its own, so that the run outlives whoever asked for it.

        environment: as run() takes it. folders: of modules that the task's code needs, here and in
            the workers.

        Raises ValueError when the actor has had another job.
        """
        if self._thread is not None and self._run_dir != run_dir:
            raise ValueError("this actor has had another job")
        if self._thread is None:
            self._run_dir = run_dir
            sys.path.extend(folders)
            arguments = (None, spec, run_dir, "either", 0, environment)
            self._thread = threading.Thread(
                target=self.run, args=arguments, name="run", daemon=True
            )
            self._thread.start()

    def run(
        self,
        task: PickledPayload | None,
        spec: bytes,
        run_dir: Path,
        begin: Begin,
        profiled_steps: int = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Run a job to its end; the last event is Finished or Failed, whatever happens.

        task: the packed dfa_tasks.Task; None builds the one that the spec names, here.
        begin: what the run wants of its folder. profiled_steps: how many torch's profiler records.
        environment: variables that trackers read: this process may come from a Ray that was started
            without them. They may hold secrets, which Ray logs if they are options of an actor.
        """
        self._profiled = profiled_steps
        os.environ.update(environment)
        self._task, self._spec, self._folder = task, JobSpec.FromString(spec), RunFolder(run_dir)
        self._warnings.listen()
        try:
            torch.set_num_threads(self._spec.resources.threads)
            with ExitStack() as at_end:
                at_end.enter_context(self._folder.opened(self._spec, begin))
                placement = start_workers(decode(self._spec), self._folder.path, at_end)
                summary = self._run(self._job(), placement, at_end)
            self._emit(Finished(summary))
        except JobError as error:
            after = "" if self._progress is None else f"; {self._how_to_go_on()}"
            self._fail(error, f"{error}{after}", job_is_wrong=True)
        except TrainingFailed as error:
            self._fail(error, f"{error}; {self._how_to_go_on()}")
        except OSError as error:
            self._fail(error, f"{self._folder.path.name}: {error}; {self._how_to_go_on()}")
        except Exception as error:  # noqa: BLE001
            what = (str(error).splitlines() or [""])[-1]
            self._fail(error, f"{type(error).__name__}: {what}; {self._how_to_go_on()}")

    def _job(self) -> Job:
        if self._task is not None:
            return Job(self._spec, self._task.unpack())
        if self._spec.working_dir:
            with suppress(OSError):  # the task then says which of its files is missing
                os.chdir(self._spec.working_dir)
        job = resolve_spec(self._spec)
        if job.task.fetch is not None:
            job.task.fetch()
        return job

    def _run(self, job: Job, placement: Placement, at_end: ExitStack) -> dict[str, Any]:
        waits = Waits(lambda what, seconds: self._emit(Waiting(what, seconds)))
        at_end.callback(waits.close)
        with waits.on("the task's data"):
            splits = job.splits()
        settings = job.settings
        with waits.on("the task's data"):
            source = training_source(job, splits, self._folders, at_end)
            prefetcher = Prefetcher(source, settings.batch_size, settings.microbatches)
            at_end.callback(prefetcher.close)
            trials = DataTrials(job.task, splits, prefetcher, settings.seed)
            stream = source if isinstance(source, Stream) else None
            origin = Origin.of(job, splits, stream)
        for warning in self._folder.begin_run(origin, job.task.files):
            self._emit(Warned(warning))
        rule = job.rule(source.steps_per_epoch)
        shares = packed_shares(job, source, self._folders)
        engine = self._engine(job, rule, prefetcher, placement, waits, trials, at_end, shares)
        del trials
        check_parts(engine.loss, job.task, splits, rule.microbatches)
        with tracked(job, self._folder, self._warn, waits) as tracker:
            trainer = Trainer(
                job,
                engine,
                splits,
                rule,
                source.steps_per_epoch,
                self._folder,
                self._emit,
                stream,
                tracker,
            )
            self._trainer = trainer
            if self._profiled:
                trainer.timeline(profile_of(engine.plan, self._profiled, self._folder, self._emit))
            if self._stopped:
                trainer.stop()
            summary = trainer.run()
            summary |= throughput(engine.plan, settings, summary, placement.workers[0].gpu)
            self._folder.write_model(self._folder.model)
            self._folder.write_result(summary)
        return summary

    def _engine(
        self,
        job: Job,
        rule: LearningRule,
        prefetcher: Prefetcher,
        placement: Placement,
        waits: Waits,
        trials: DataTrials,
        at_end: ExitStack,
        shares: PickledPayload | None,
    ) -> Pipeline:
        pipeline = self._pipeline(job, rule, prefetcher, placement, waits, trials, shares)
        at_end.callback(pipeline.close)
        for warning in trials.check_scores():
            self._emit(Warned(warning))
        return pipeline

    def _pipeline(
        self,
        job: Job,
        rule: LearningRule,
        prefetcher: Prefetcher,
        placement: Placement,
        waits: Waits,
        trials: DataTrials,
        shares: PickledPayload | None,
    ) -> Pipeline:
        workers = placement.workers
        with waits.on("the layers", "to be measured"):
            trials.check_cut(job.model)
            plan = plan_for(job, rule, trials, workers)
        gpus = [gpu_here(), *(worker.gpu for worker in workers)]
        transport = choose(job.settings.resources.transport, gpus)
        links = describe_links(transport, gpus, rendezvous_host(workers))
        table, weights = plan.table(), plan.profile.head_parameters
        self._emit(PlanMade(table, weights, links))
        folders = self._folders
        first = model_to_start_with(job, self._folder, self._emit)
        model = pack(first, job.settings.working_dir, folders)  # alone: workers need no data
        head: Head | PickledPayload
        if plan.head != "coordinator":
            head = pack(plan.profile.loss, job.settings.working_dir, folders)
        else:
            head = Head(first, plan.profile.loss, rule)
            head.to(device_here())
        return Pipeline(
            workers,
            plan,
            model,
            head,
            prefetcher,
            timeout_s=job.settings.resources.timeout_s,
            transport=transport,
            snapshot_steps=job.settings.faults.snapshot_steps,
            placement=placement,
            waits=waits,
            warn=self._warnings.note,
            metrics=None if plan.head == "coordinator" else packed_metrics(job, folders),
            far=lambda hop: self._emit(LinksAreSlow(hop.message)),
            data=shares,
        )

    @property
    def _folders(self) -> Sequence[str] | None:
        """Return where workers look for the user's modules; None: where this process does."""
        return self._task.folders if self._task is not None else None

    def _how_to_go_on(self) -> str:
        try:
            newest = self._folder.checkpoint()
        except JobError as error:
            return str(error)
        if newest is None:
            return "no checkpoint was written yet"
        saved = f"the last good checkpoint is of step {newest.step}"
        if self._task is None:  # a service's: its folders are not the user's
            return saved
        return f"{saved}: continue with errorcast train {quote(str(self._folder.path))} --resume"

    def _warn(self, message: str) -> None:
        self._emit(Warned(message))

    def _emit(self, event: Event | Progress) -> None:
        with self._news:
            if isinstance(event, Progress):
                self._progress = event
            else:
                self._events.append(event)
            self._news.notify_all()

    def _fail(self, error: Exception, message: str, job_is_wrong: bool = False) -> None:
        trace = "".join(traceback.format_exception(error))
        self._emit(Failed(message, job_is_wrong, trace))

    @ray.method(concurrency_group="control")
    def follow(self, after: int, wait_s: float) -> tuple[list[Event], Progress | None]:
        """Return the events from number `after` on, and the newest progress.

        Answers at once when there are such events, otherwise at the next one or after `wait_s`
        seconds.
        """
        with self._news:
            self._news.wait_for(lambda: len(self._events) > after, timeout=wait_s)
            return self._events[after : after + _AT_ONCE], self._progress

    @ray.method(concurrency_group="control")
    def process(self) -> int:
        """Return the process id, as soon as the actor has started."""
        return os.getpid()

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """Ask the run to save its state and end."""
        self._stopped = True
        if self._trainer is not None:
            self._trainer.stop()

    @ray.method(concurrency_group="control")
    def timeline(self, steps: int, wait_s: float) -> list[list[Span]]:
        """Return the spans of the next steps: a row a block, and the head's.

        Raises TrainingFailed when none could be traced in that time.
        """
        if self._trainer is None:
            raise TrainingFailed("the job does not train yet")
        request = TraceRequest(steps)
        self._trainer.timeline(request)
        return [list(row) for row in request.wait(wait_s)]


TrainingActor: Any = ray.remote(
    num_cpus=0, max_restarts=0, max_task_retries=0, concurrency_groups={"control": 4}
)(TrainingWork)


def training_actor(gpus: float = 0.0, **options: Any) -> Any:
    """Start a training actor on the caller's node: there lies the run's folder, and its lock.

    gpus: its share; if the node has less, it starts without any and reports it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    there = gpus if gpus and gpus <= gpus_of_this_node() else 0.0
    options = {"scheduling_strategy": here, "num_gpus": there, **options}
    return TrainingActor.options(**options).remote()
