"""The fastest use of so many workers, for the commands that take `--workers`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.job.spec import Settings
    from dfa_speedup.simulation.scaling import Prediction


def fastest_for(
    workers: int,
    task: str,
    settings: "Settings",
    chosen: Sequence[str],
    one_pipeline: bool = False,
) -> "Prediction":
    """Return the prediction for the fastest shape of so many workers, from costs measured here.

    chosen: the settings that follow from it, which must not be given too.
    one_pipeline: of one replica, with the head in one of the workers.

    Raises JobError for a setting that is chosen and given, and where there is no such shape.
    """
    from coordinator.experiments.prediction import fastest
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import merge
    from dfa_core import JobError

    for name in chosen:
        if name in settings:
            raise JobError(f"workers: {workers} chooses {name} too; give one of both")
    job = resolve(task, merge(settings, {"blocks": 1, "microbatches": 1}))
    if job.task.fetch is not None:
        job.task.fetch()
    return fastest(job, workers, one_pipeline)


def settings_of(found: "Prediction") -> dict[str, Any]:
    """Return the blocks and heads of a prediction, and the head's place, as settings."""
    shape = found.shape
    head = "auto" if shape.heads else shape.head
    return {"blocks": shape.blocks, "heads": shape.heads, "resources": {"head": head}}


def one_pipeline_of(workers: int, task: str, settings: "Settings") -> dict[str, Any]:
    """Return the settings of the fastest pipeline of so many workers. Raises as fastest_for()."""
    chosen = ("blocks", "heads")
    return settings_of(fastest_for(workers, task, settings, chosen, one_pipeline=True))
