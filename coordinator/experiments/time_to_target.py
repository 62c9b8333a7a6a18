"""Time to a test score: errorcast and the best pipeline are both trained until they reach it.

Seconds count training alone; neither side's include the evaluations between the epochs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import evaluate
from coordinator.engine.single_process import SingleProcess
from coordinator.experiments.errorcast_side import ErrorcastSide, StopCriterion
from coordinator.job.resolve import Job
from coordinator.job.user_code import pack
from coordinator.launch.ray_session import ray_for
from coordinator.planning.workload import open_prefetcher
from dfa_core import JobError, ModelProfile, Reference
from dfa_speedup.bench_workers import BenchWorkers
from dfa_speedup.comparison import Comparison
from dfa_speedup.peers import ERRORCAST
from dfa_speedup.workload import Configuration, Workload
from dfa_tasks import Task
from dfa_tasks.source import as_source
from workers.payload import PickledPayload
from workers.placement import WorkerResources


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
        """Build one from a job. Raises JobError for a score that the task does not have."""
        settings, task = job.settings, job.task
        if score not in ("loss", *task.metrics):
            raise JobError(f"--to-{score}: task '{task.name}' has no such score")
        steps = as_source(job.splits().train, settings.batch_size, settings.seed).steps_per_epoch
        opened = OpenTask(task, settings.batch_size, settings.seed)
        workload = Workload(
            job.model,
            replace(measured.loss, mean=task.loss),
            job.rule(steps),
            opened,
            settings.batch_size,
            measured,
        )
        return cls(job, workload, StopCriterion(task, score, bound, steps, settings.epochs))

    @contextmanager
    def workers(self) -> Iterator[tuple[BenchWorkers, PickledPayload]]:
        """Start the workers of this side; they stop when the context ends."""
        resources, payload = (
            self.job.settings.resources,
            pack(self.workload, self.job.settings.working_dir),
        )
        worker_resources = WorkerResources(resources.cpus, resources.gpus, resources.threads)
        workers = BenchWorkers(payload, len(self.job.grid), worker_resources, resources.timeout_s)
        try:
            yield workers, payload
        finally:
            workers.stop()


def race(
    job: Job,
    peer: Job,
    found: Comparison,
    score: str,
    bound: float,
    ray_address: str | None,
) -> list[dict[str, Any]]:
    """Train errorcast and the fastest pipeline of a comparison to a test score.

    Raises JobError where no pipeline could run, and what time_to_target() raises.
    """
    ours, pipeline = found.best(ERRORCAST), found.best_pipeline()
    if pipeline is None:
        raise JobError("--to-accuracy, --to-loss: no pipeline could run to compare with")
    cut = ours.configuration.microbatches
    profile, other = found.workload.profile, pipeline.configuration
    return time_to_target(job, peer, profile, cut, other, score, bound, ray_address)


def time_to_target(
    job: Job,
    peer: Job,
    measured: ModelProfile,
    ours: int,
    pipeline: Configuration,
    score: str,
    bound: float,
    ray_address: str | None,
) -> list[dict[str, Any]]:
    """Train both sides until the test score is reached or their epochs are over.

    ours: errorcast's number of microbatches. peer: the job of the pipeline: the same task, perhaps
    with other settings that suit it better.

    Returns a row a side: schedule, label, microbatches, epochs, seconds, reached, the last scores.
    Raises JobError for a score that the task does not have, and where the layers differ in number.
    """
    if len(job.model.layers) != len(peer.model.layers):
        raise JobError(
            f"--pipeline-set: both sides must train the same network, but the pipeline's has "
            f"{len(peer.model.layers)} layers and errorcast's has {len(job.model.layers)}"
        )
    contender, other = (Contender.of(one, measured, score, bound) for one in (job, peer))
    with ray_for(len(job.grid), job.settings.resources.cpus, ray_address):
        epochs, peer_epochs = _errorcast(contender, ours), _peer(other, pipeline)
    return [
        _row(Configuration(ERRORCAST, ours), epochs, contender.criterion),
        _row(pipeline, peer_epochs, other.criterion),
    ]


def _errorcast(contender: Contender, microbatches: int) -> list[tuple[float, dict[str, float]]]:
    resources = contender.job.settings.resources
    with contender.workers() as (workers, payload):
        folder = contender.job.settings.working_dir
        side = ErrorcastSide(payload, resources, contender.job.settings.heads)
        try:
            ours, criterion = Configuration(ERRORCAST, microbatches), contender.criterion
            return side.time_to_target(workers, ours, pack(criterion, folder))
        finally:
            side.stop()


def _peer(contender: Contender, pipeline: Configuration) -> list[tuple[float, dict[str, float]]]:
    workload, criterion = contender.workload, contender.criterion
    splits, epochs = contender.job.splits(), []
    reference = Reference(workload.model, workload.loss, replace(workload.rule, staleness=0))
    engine = SingleProcess(reference, Prefetcher(_NoData(), 1, 1))
    with contender.workers() as (workers, _):
        for first, last in criterion.epochs():
            done = workers.train(pipeline, first, last)
            seconds = max(sum(worker.seconds) for worker in done)
            states = workers.states(pipeline)
            for module in reference.trained_modules():
                module.load_state(*states[module.name])
            scores = evaluate(engine, criterion.task, splits.test, workload.rule.seed)
            epochs.append((seconds, scores))
            if criterion.reached(epochs[-1][1]):
                break
    return epochs


class _NoData:
    """Training data for an engine that only evaluates."""

    steps_per_epoch = 1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        raise AssertionError(f"this engine does not train, but step {step} was requested")


def _row(
    configuration: Configuration,
    epochs: list[tuple[float, dict[str, float]]],
    criterion: StopCriterion,
) -> dict[str, Any]:
    return {
        "schedule": configuration.schedule,
        "label": configuration.label,
        "microbatches": configuration.microbatches,
        "epochs": len(epochs),
        "seconds": round(sum(seconds for seconds, _ in epochs), 3),
        "reached": criterion.reached(epochs[-1][1]),
        "scores": [scores for _, scores in epochs],
    }
