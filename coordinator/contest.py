"""errorcast's own side of a comparison: rank 0 of a pipeline whose blocks are the contest's."""

from dataclasses import replace
from itertools import pairwise
from time import perf_counter, time
from typing import Any, cast

import ray
import torch
from torch import Tensor

from coordinator.feed import Feed
from coordinator.pipeline import Pipeline
from coordinator.plan import Plan
from dfa_core import Head, JobError, TrainingFailed, partition
from dfa_speedup.case import Case
from dfa_speedup.compare import Visit
from dfa_speedup.workers import PeerFailed, Workers
from workers.actor import Shipment
from workers.placement import Worker
from workers.trace import Span


class TracedHead(Head):
    """A head that notes when it computes."""

    spans: list[Span]

    def error(self, h: Tensor, target: Tensor, step: int, microbatch: int) -> tuple[float, Tensor]:
        """Return loss and global error of one microbatch."""
        start = time()
        result = super().error(h, target, step, microbatch)
        self.spans.append(Span("head", step, microbatch, start, time()))
        return result


class Rank0:
    """The coordinator in an actor of its own, as in a real run."""

    def __init__(self, case: Shipment, threads: int, timeout_s: float) -> None:
        self._threads, self._timeout_s, self._folders = threads, timeout_s, case.folders
        self._case: Case = case.unpack()

    def visit(self, workers: list[Worker], microbatches: int, steps: int) -> Visit:
        """Train steps 0..steps-1 from the initial weights; the first is not in the seconds."""
        torch.set_num_threads(self._threads)
        case = self._case
        rule = replace(case.rule, microbatches=microbatches)
        ranges = tuple(partition(case.costs, len(workers)))
        plan = Plan(case.profile, ranges, case.batch_size // microbatches, microbatches)
        head = TracedHead(case.model, case.loss, rule)
        head.spans = []
        feed = cast(Feed, case.batches(microbatches))
        pipeline = Pipeline(
            workers,
            plan,
            Shipment.pack(case.model, self._folders),
            head,
            feed,
            rule,
            self._timeout_s,
        )
        marks: list[float] = []
        losses: list[float] = []

        def on_step(_: int, loss: float) -> None:
            marks.append(perf_counter())
            losses.append(loss)

        try:
            ray.get([worker.actor.trace.remote() for worker in workers])
            pipeline.train(0, steps, on_step)
            spans = ray.get([worker.actor.spans.remote() for worker in workers])
            sent = sum(int(row["bytes_sent"]) for row in pipeline.report())
        finally:
            pipeline.close()
            feed.close()
        seconds = [b - a for a, b in pairwise(marks)]
        return Visit(seconds, losses, [*spans, head.spans], sent // steps)


class ErrorcastSide:
    """Drives rank 0."""

    def __init__(self, case: Shipment, threads: int, timeout_s: float) -> None:
        self._rank0: Any = ray.remote(num_cpus=0)(Rank0).remote(case, threads, timeout_s)

    def visit(self, workers: Workers, microbatches: int, steps: int) -> Visit:
        """Train so many steps. Raises PeerFailed."""
        try:
            call = self._rank0.visit.remote(list(workers.all), microbatches, steps)
            visit: Visit = ray.get(call)
        except (ray.exceptions.RayError, JobError, TrainingFailed) as error:
            raise PeerFailed(" ".join(str(error).split())) from error
        return visit

    def peak_memory_mb(self, workers: Workers, microbatches: int, steps: int) -> float:
        """Train so many steps; return the largest peak over what a worker held before."""
        before = ray.get([w.actor.reset_peak_memory.remote() for w in workers.all])
        self.visit(workers, microbatches, steps)
        peaks = ray.get([w.actor.peak_memory_mb.remote() for w in workers.all])
        return float(max(peak - base for peak, base in zip(peaks, before, strict=True)))

    def stop(self) -> None:
        """End rank 0."""
        ray.kill(self._rank0)
