"""errorcast's own side of a comparison: rank 0 of a pipeline on the comparison's workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any, cast

import ray
import torch

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import evaluate
from coordinator.engine.head_place import with_head_placed
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan
from coordinator.job.settings import ResourceSettings
from dfa_core import FeedbackSpec, Head, JobError, TrainingFailed
from dfa_core.balance.cutting import cut_layers
from dfa_speedup.bench_workers import BenchWorkers, PeerFailed, WorkersLost, cause_of
from dfa_speedup.comparison import Trial
from dfa_speedup.peers import COMPILED_ERRORCAST, OWN_BACKWARD
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Configuration, Workload
from dfa_tasks import Task
from workers.gpu import device_here, gpu_here
from workers.groups.transport import choose
from workers.life.monitor import Monitor
from workers.life.sign import Sign
from workers.payload import PickledPayload
from workers.placement import Worker


class Rank0:
    """The coordinator in an actor of its own, as in a real run."""

    def __init__(self, workload: PickledPayload, resources: ResourceSettings, heads: int) -> None:
        self._resources, self._heads, self._payload = resources, heads, workload
        self._workload: Workload = workload.unpack()
        self._joined_pipeline: JoinedPipeline | None = None

    def trial(self, workers: list[Worker], side: Configuration, steps: int) -> Trial:
        """Train the next `steps` steps; the seconds do not include the first of them."""
        marks: list[float] = []
        losses: list[float] = []

        def on_step(_: int, loss: float) -> None:
            marks.append(perf_counter())
            losses.append(loss)

        joined = self._join(workers, side)
        sent = joined.bytes_sent()
        joined.pipeline.trace()
        joined.pipeline.train(joined.step, joined.step + steps, on_step)
        joined.step += steps
        spans = [recording.spans for recording in joined.pipeline.recordings()]
        seconds = [b - a for a, b in pairwise(marks)]
        each = (joined.bytes_sent() - sent) // steps
        return Trial(seconds, losses, spans, each, joined.shape)

    def enter_race(self, task: PickledPayload) -> None:
        """Take the task that evaluates each stretch()."""
        self._task: Task = task.unpack()
        self._test = self._task.splits(self._workload.rule.seed).test

    def stretch(
        self, workers: list[Worker], side: Configuration, first: int, last: int
    ) -> tuple[float, dict[str, float]]:
        """Train steps first..last-1; return the seconds of training, and the test scores."""
        pipeline = self._join(workers, side).pipeline
        start = perf_counter()
        pipeline.train(first, last, lambda *_: None)
        seconds = perf_counter() - start
        return seconds, evaluate(pipeline, self._task, self._test, self._workload.rule.seed)

    def place(self) -> tuple[int, str]:
        """Return (process id, node id)."""
        return os.getpid(), ray.get_runtime_context().get_node_id()

    @ray.method(concurrency_group="life")
    def sign(self) -> Sign:
        """Return a sign of life."""
        return Sign(moved=0, waits=False)

    def forget(self) -> None:
        """Leave the group of the blocks; the next trial starts a new pipeline."""
        if self._joined_pipeline is not None:
            self._joined_pipeline.pipeline.close()
            self._joined_pipeline.prefetcher.close()
            self._joined_pipeline = None

    def _join(self, workers: list[Worker], side: Configuration) -> "JoinedPipeline":
        """Return the pipeline of a configuration on these workers, built once."""
        key = (side, *(worker.process for worker in workers))
        if self._joined_pipeline is None or self._joined_pipeline.key != key:
            self.forget()
            torch.set_num_threads(self._resources.threads)
            workload, m = self._workload, side.microbatches
            rule, backward = replace(workload.rule, microbatches=m), OWN_BACKWARD.get(side.schedule)
            if side.schedule == COMPILED_ERRORCAST:
                rule = replace(rule, compiled=True)
            profile = workload.profile
            if backward is not None:
                profile = workload.profile_of_backpropagation
                rule = replace(
                    rule, method="bp", staleness=backward.staleness, feedback=FeedbackSpec()
                )
            ranges = tuple(cut_layers(profile, rule, len(workers) - self._heads))
            samples, kind = workload.batch_size // m, self._resources.kind
            plan = Plan(profile, ranges, samples, rule, kind=kind)
            if backward is not None:
                plan = replace(plan, schedule=backward.schedule)
            node = ray.get_runtime_context().get_node_id()
            asked, own = self._resources.head, self._resources.coordinator_gpus
            plan = with_head_placed(plan, asked, self._heads, workers, node, own)
            gpus = [gpu_here(), *(worker.gpu for worker in workers)]
            transport = choose(self._resources.transport, gpus)
            prefetcher = cast(Prefetcher, workload.batches(m))
            where = self._payload.folders, self._payload.working_dir
            model = PickledPayload.pack(workload.model, *where)
            head: Head | PickledPayload
            if plan.head == "coordinator":
                head = Head(workload.model, workload.loss, rule)
                head.to(device_here())
            else:
                head = PickledPayload.pack(workload.loss, *where)
            limit = self._resources.timeout_s
            pipeline = Pipeline(workers, plan, model, head, prefetcher, limit, transport)
            pipeline.start(None)
            shape = Shape(len(plan.ranges), 1, plan.head, plan.heads)
            self._joined_pipeline = JoinedPipeline(key, pipeline, prefetcher, shape)
        return self._joined_pipeline


@dataclass
class JoinedPipeline:
    """A pipeline that stays joined between trials, and its next step."""

    key: tuple[object, ...]
    pipeline: Pipeline
    prefetcher: Prefetcher
    shape: Shape
    step: int = 0

    def bytes_sent(self) -> int:
        """Return the bytes that all its processes have sent in training."""
        return sum(int(row["bytes_sent"]) for row in self.pipeline.report())


class ErrorcastSide:
    """Starts rank 0 in its actor, and calls it."""

    def __init__(self, workload: PickledPayload, resources: ResourceSettings, heads: int) -> None:
        """heads: how many of the workers are for the head alone."""
        self._payload, self._resources, self._heads = workload, resources, heads
        self._timeout_s = resources.timeout_s
        self._start()

    def _start(self) -> None:
        own = self._resources.coordinator_gpus
        actor: Any = ray.remote(num_cpus=0, num_gpus=own, concurrency_groups={"life": 1})(Rank0)
        self._rank0: Any = actor.remote(self._payload, self._resources, self._heads)
        self._worker = Worker(self._rank0, *ray.get(self._rank0.place.remote()))

    def trial(self, workers: BenchWorkers, side: Configuration, steps: int) -> Trial:
        """Train `steps` steps. Raises PeerFailed."""
        with self._failures(workers):
            trial: Trial = self._call("trial", workers, side, steps)
        return trial

    def enter_race(self, task: PickledPayload) -> None:
        """Take the task that evaluates each stretch()."""
        ray.get(self._rank0.enter_race.remote(task))

    def stretch(
        self, workers: BenchWorkers, side: Configuration, first: int, last: int
    ) -> tuple[float, dict[str, float]]:
        """Train steps first..last-1; return seconds and test scores. Raises PeerFailed."""
        with self._failures(workers):
            trained: tuple[float, dict[str, float]]
            trained = self._call("stretch", workers, side, first, last)
        return trained

    def first_trial(
        self, workers: BenchWorkers, side: Configuration, steps: int
    ) -> tuple[Trial, float]:
        """Train `steps` steps; return also the largest growth of a worker's peak memory, MB."""
        if side.microbatches < self._heads:
            raise PeerFailed(f"needs at least {self._heads} microbatches, one a head")
        with self._failures(workers):
            before = ray.get([w.actor.reset_peak_memory.remote() for w in workers.all])
            trial: Trial = self._call("trial", workers, side, steps)
            peaks = ray.get([w.actor.peak_memory_mb.remote() for w in workers.all])
            ray.get(self._rank0.forget.remote())
        return trial, float(max(peak - base for peak, base in zip(peaks, before, strict=True)))

    def _call(self, method: str, workers: BenchWorkers, *arguments: Any) -> Any:
        call = getattr(self._rank0, method).remote(list(workers.all), *arguments)
        monitor = Monitor({0: self._worker}, self._timeout_s)
        while not ray.wait([call], timeout=monitor.period_s)[0]:
            workers.stop_if_asked()
            monitor.look()
            if monitor.hung():
                raise WorkersLost(f"rank 0 hangs: no sign of life for {self._timeout_s:g} s")
        return ray.get(call)

    @contextmanager
    def _failures(self, workers: BenchWorkers) -> Iterator[None]:
        """Raise PeerFailed for what fails inside; WorkersLost where there are new processes."""
        try:
            yield
        except (ray.exceptions.RayError, JobError, TrainingFailed) as error:
            lost = isinstance(error, ray.exceptions.RayActorError | WorkersLost)
            if lost:  # perhaps rank 0; if not, it has nothing to lose
                self.stop()
                self._start()
            lost = workers.renewed() or lost
            raise (WorkersLost if lost else PeerFailed)(cause_of(error)) from error

    def stop(self) -> None:
        """End rank 0."""
        ray.kill(self._rank0)
