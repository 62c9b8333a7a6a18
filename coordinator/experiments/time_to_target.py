"""Time to a test score: errorcast and the best pipeline are both trained until they reach it.

Seconds count training alone; neither side's include the evaluations between the epochs.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import evaluate
from coordinator.engine.single_process import SingleProcess
from coordinator.experiments.errorcast_side import ErrorcastSide
from coordinator.experiments.race import Race, Raced
from coordinator.job.resolve import Job
from coordinator.job.user_code import pack
from coordinator.planning.workload import open_prefetcher
from coordinator.training.first_weights import first_model
from dfa_core import ModelProfile, Reference
from dfa_speedup.bench_workers import BenchWorkers, PeerFailed, WorkersLost
from dfa_speedup.workload import Configuration, Workload
from dfa_tasks import Task
from dfa_tasks.source import as_source
from workers.payload import PickledPayload
from workers.placement import WorkerResources


@dataclass(frozen=True)
class StopCriterion:
    """When training stops: when a test score reaches a bound, or after the last epoch."""

    task: Task
    score: str
    bound: float
    steps_per_epoch: int
    last_epoch: int

    def epochs(self) -> list[tuple[int, int]]:
        """Return the first step of each epoch, and the step after its last."""
        n = self.steps_per_epoch
        return [(epoch * n, (epoch + 1) * n) for epoch in range(self.last_epoch)]

    def reached(self, scores: dict[str, float]) -> bool:
        """Return whether the score reaches the bound: a loss from above, others from below."""
        value = scores[self.score]
        return value <= self.bound if self.score == "loss" else value >= self.bound


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
    def of(cls, job: Job, measured: ModelProfile, score: str, bound: float) -> "Contender":
        """Build one from a job."""
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
        )
        return cls(job, workload, StopCriterion(task, score, bound, steps, settings.epochs))

    @contextmanager
    def workers(
        self, stop_if_asked: Callable[[], None]
    ) -> Iterator[tuple[BenchWorkers, PickledPayload]]:
        """Start the workers of this side; they stop when the context ends."""
        resources, payload = (
            self.job.settings.resources,
            pack(self.workload, self.job.settings.working_dir),
        )
        worker_resources = WorkerResources(resources.cpus, resources.gpus, resources.threads)
        timeout_s, blocks = resources.timeout_s, len(self.job.grid)
        workers = BenchWorkers(payload, blocks, worker_resources, timeout_s, stop_if_asked)
        try:
            yield workers, payload
        finally:
            workers.stop()


def run_race(
    race: Race,
    job: Job,
    peer: Job,
    profile: ModelProfile,
    keep: Callable[[], None],
    stop_if_asked: Callable[[], None],
) -> None:
    """Train the sides that have not finished until the score is reached or their epochs are over.

    keep: called after each epoch. stop_if_asked: called again and again in each wait. Ray must be
    there. A side that fails says why, and the other one runs; where that has cost the workers, it
    starts again once.
    """
    for side, of_side, train in zip(race.sides, (job, peer), (_errorcast, _peer), strict=True):
        if side.finished:
            continue
        contender = Contender.of(of_side, profile, race.score, race.bound)
        epochs = partial(train, contender, side.configuration, stop_if_asked)
        try:
            try:
                _train(side, contender, epochs, keep)
            except WorkersLost:
                _train(side, contender, epochs, keep)
        except PeerFailed as error:
            side.failed = str(error)
        keep()


Epochs = Generator[tuple[float, dict[str, float]]]


def _train(
    side: Raced,
    contender: Contender,
    train: Callable[[], Epochs],
    keep: Callable[[], None],
) -> None:
    side.epochs, side.failed = [], ""
    with closing(train()) as epochs:
        for epoch in epochs:
            side.epochs.append(epoch)
            side.reached = contender.criterion.reached(epoch[1])
            keep()
            if side.reached:
                break
    side.finished = True


def _errorcast(
    contender: Contender, configuration: Configuration, stop_if_asked: Callable[[], None]
) -> Epochs:
    settings, criterion = contender.job.settings, contender.criterion
    with contender.workers(stop_if_asked) as (workers, payload):
        side = ErrorcastSide(payload, settings.resources, settings.heads)
        try:
            side.enter_race(pack(criterion.task, settings.working_dir))
            for first, last in criterion.epochs():
                yield side.epoch(workers, configuration, first, last)
        finally:
            side.stop()


def _peer(
    contender: Contender, configuration: Configuration, stop_if_asked: Callable[[], None]
) -> Epochs:
    workload, criterion = contender.workload, contender.criterion
    test, seed = contender.job.splits().test, workload.rule.seed
    reference = Reference(workload.model, workload.loss, replace(workload.rule, staleness=0))
    engine = SingleProcess(reference, Prefetcher(_NoData(), 1, 1))
    with contender.workers(stop_if_asked) as (workers, _):
        for first, last in criterion.epochs():
            done = workers.train(configuration, first, last)
            states = workers.states(configuration)
            for module in reference.trained_modules():
                module.load_state(*states[module.name])
            scores = evaluate(engine, criterion.task, test, seed)
            yield max(sum(worker.seconds) for worker in done), scores


class _NoData:
    """Training data for an engine that only evaluates."""

    steps_per_epoch = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        raise AssertionError(f"this engine does not train, but step {step} was requested")
