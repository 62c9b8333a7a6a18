"""The fastest use of a number of workers, if only that number is given."""

from collections.abc import Sequence
from typing import Any

from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import Settings, merge
from coordinator.planning.prediction import fastest
from dfa_core import JobError
from dfa_speedup.simulation.scaling import Prediction

_ALONE: Settings = {"blocks": 1, "replicas": 1, "heads": 0}


def fastest_for(
    workers: int, task: str, settings: Settings, chosen: Sequence[str], one_pipeline: bool = False
) -> Prediction:
    """Return the prediction for the fastest shape of these workers, from costs measured here.

    chosen: the settings that follow from it, which must not be given too.
    one_pipeline: of one replica, with the head in one of the workers.

    Raises JobError for a setting that is chosen and given, and where there is no such shape.
    """
    for name in chosen:
        if name in settings:
            raise JobError(f"workers: {workers} chooses {name} too; give one of both")
    job = _with_data(task, merge(settings, {"blocks": 1, "microbatches": 1}))
    return fastest(job, workers, one_pipeline)


def fastest_at(workers: int, task: str, settings: Settings) -> Prediction:
    """Return the prediction for the fastest shape of these workers that keeps the microbatches.

    So the weights stay those of the job, but for the order of sums. Raises as fastest_for().
    """
    job = _with_data(task, merge(settings, _ALONE | {"resources": {"head": "auto"}}))
    return fastest(job, workers, microbatches=job.settings.microbatches)


def settings_of(found: Prediction) -> dict[str, Any]:
    """Return the blocks and heads of a prediction, and the head's place, as settings."""
    shape = found.shape
    head = "auto" if shape.heads else shape.head
    return {"blocks": shape.blocks, "heads": shape.heads, "resources": {"head": head}}


def one_pipeline_of(workers: int, task: str, settings: Settings) -> dict[str, Any]:
    """Return the settings of the fastest pipeline of these workers. Raises as fastest_for()."""
    chosen = ("blocks", "heads")
    return settings_of(fastest_for(workers, task, settings, chosen, one_pipeline=True))


def _with_data(task: str, settings: Settings) -> Job:
    """Return the job, once its data are here. Raises JobError where its method is not predicted."""
    job = resolve(task, settings)
    if job.method != "dfa":
        raise JobError(
            f"workers: the fastest shape is predicted for method dfa, and the job's is "
            f"{job.method}; give blocks, replicas and heads"
        )
    if job.task.fetch is not None:
        job.task.fetch()
    return job
