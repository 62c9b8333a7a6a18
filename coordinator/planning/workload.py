"""What a comparison measures: one batch of a job, again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.job.resolve import Job
from dfa_core import JobError, LearningRule, Model, profile, split
from dfa_core.loss import Loss
from dfa_speedup.workload import Workload
from dfa_tasks.source import as_source


@dataclass(frozen=True)
class OneBatch:
    """The same batch at every step: timing must not include the cost of data."""

    x: Tensor
    target: Tensor
    steps_per_epoch: int = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the batch."""
        return self.x, self.target

    def opener(self) -> partial[Prefetcher]:
        """Return what opens this batch as data, given a number of microbatches."""
        return partial(open_prefetcher, self, len(self.x))


def timing_workload(job: Job, microbatches: Sequence[int]) -> Workload:
    """Return the workload that steps are timed on: the job's first batch, again and again.

    Raises JobError when a number of microbatches does not divide the batch, or when the parts of
    the job do not fit together.
    """
    settings = job.settings
    for m in microbatches:
        if m < 1 or settings.batch_size % m:
            raise JobError(f"microbatches: {m} does not divide batch_size {settings.batch_size}")
    source = as_source(job.splits().train, settings.batch_size, settings.seed)
    rule, data = job.rule(source.steps_per_epoch), OneBatch(*source.batch(0))
    loss, uncut = job.task.weighted_loss, job.task.full_batch
    return measured_workload(job.model, loss, rule, data, min(microbatches), uncut)


def measured_workload(
    model: Model,
    loss: Loss,
    rule: LearningRule,
    data: OneBatch,
    microbatches: int,
    uncut: bool = False,
) -> Workload:
    """Return the workload of one batch; its layers are profiled on the first of its microbatches.

    Raises JobError when model, loss, rule and data do not fit together.
    """
    xs, targets = split(data.x, microbatches), split(data.target, microbatches)
    measured = profile(model, loss, rule, xs[0], targets[0], targets)
    return Workload(model, measured.loss, rule, data.opener(), len(data.x), measured, uncut)


def open_prefetcher(source: Any, batch_size: int, microbatches: int) -> Prefetcher:
    """Open a source in the process that calls this."""
    return Prefetcher(source, batch_size, microbatches)
