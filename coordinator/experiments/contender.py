"""A contender that trains to a test score: its job, what it trains on, and when it stops."""

from dataclasses import dataclass, replace

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.job.resolve import Job
from coordinator.planning.workload import open_prefetcher
from coordinator.training.first_weights import first_model
from dfa_core import ModelProfile
from dfa_speedup.workload import Workload
from dfa_tasks import Task
from dfa_tasks.source import as_source


def reaches(score: str, value: float, bound: float) -> bool:
    """Return whether a value of a score reaches a bound: a loss from above, others from below."""
    return value <= bound if score == "loss" else value >= bound


@dataclass(frozen=True)
class StopCriterion:
    """When training stops: when a test score reaches a bound, or after the last step.

    every: steps between two evaluations.
    steps: of all epochs.
    """

    task: Task
    score: str
    bound: float
    every: int
    steps: int

    def stretches(self) -> list[tuple[int, int]]:
        """Return the first step of each stretch between evaluations, and the step after its last.

        The last stretch may be shorter than the others.
        """
        n = self.every
        return [(first, min(first + n, self.steps)) for first in range(0, self.steps, n)]

    def reached(self, scores: dict[str, float]) -> bool:
        """Return whether the score reaches the bound."""
        return reaches(self.score, scores[self.score], self.bound)


@dataclass(frozen=True)
class OpenTask:
    """Opens a task's training data in the process that calls it: it does not travel."""

    task: Task
    batch_size: int
    seed: int

    def __call__(self, microbatches: int) -> Prefetcher:
        """Return a prefetcher of the task's batches."""
        source = as_source(self.task.splits(self.seed).train, self.batch_size, self.seed)
        return open_prefetcher(source, self.batch_size, microbatches)


@dataclass(frozen=True)
class Contender:
    """One side: its job, its workload, and when it stops."""

    job: Job
    workload: Workload
    criterion: StopCriterion

    @classmethod
    def of(
        cls, job: Job, measured: ModelProfile, score: str, bound: float, every: int = 0
    ) -> "Contender":
        """Build one from a job; every: steps between two evaluations, 0 for those of an epoch."""
        settings, task = job.settings, job.task
        steps = as_source(job.splits().train, settings.batch_size, settings.seed).steps_per_epoch
        opened = OpenTask(task, settings.batch_size, settings.seed)
        model, _ = first_model(job)
        workload = Workload(
            model,
            replace(measured.loss, mean=task.loss),
            job.rule(steps),
            opened,
            settings.batch_size,
            measured,
            task.full_batch,
        )
        total = settings.epochs * steps
        return cls(job, workload, StopCriterion(task, score, bound, every or steps, total))
