"""What a comparison measures: one batch of a job, again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from coordinator.engine.prefetcher import Prefetcher
from coordinator.job.resolve import Job
from dfa_core import JobError, profile, split
from dfa_speedup.workload import Workload
from dfa_tasks.source import as_source


@dataclass(frozen=True)
class OneBatch:
    """The same batch at every step: for timing, data shall cost nothing."""

    x: Tensor
    target: Tensor
    steps_per_epoch: int = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the batch."""
        return self.x, self.target


def timing_workload(job: Job, microbatches: Sequence[int]) -> Workload:
    """Return the case that steps are timed on: the job's first batch, again and again."""
    spec = job.spec
    for m in microbatches:
        if m < 1 or spec.batch_size % m:
            raise JobError(f"microbatches: {m} does not divide batch_size {spec.batch_size}")
    source = as_source(job.task.splits().train, spec.batch_size, spec.seed)
    x, target = source.batch(0)
    rule = job.rule(source.steps_per_epoch)
    cut = min(microbatches)
    measured = profile(job.model, job.task.loss, rule, split(x, cut)[0], split(target, cut)[0])
    batches = partial(open_prefetcher, OneBatch(x, target), spec.batch_size)
    return Workload(job.model, job.task.loss, rule, batches, spec.batch_size, measured)


def open_prefetcher(source: Any, batch_size: int, microbatches: int) -> Prefetcher:
    """Open a source in the process that calls this."""
    return Prefetcher(source, batch_size, microbatches)
