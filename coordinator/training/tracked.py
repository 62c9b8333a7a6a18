"""Has a run's trackers see it from its begin to its end, whatever that end is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.engine.waits import Waits
from coordinator.job.resolve import Job
from coordinator.job.spec import to_settings
from coordinator.job.trackers import check_trackers
from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers.choice import make_trackers
from coordinator.runs.trackers.tracker import RunEnd, Tracker

_LARGEST_MODEL = 200 * 2**20  # bytes; a larger one stays in the run folder


@contextmanager
def tracked(
    job: Job, folder: RunFolder, warn: Callable[[str], None], waits: Waits
) -> Iterator[Tracker]:
    """Give the trackers of a job to the run inside the block, which writes model and result.

    Afterwards they get the run's files and how it ended.

    warn: gets what the user should know. Raises JobError for a tracker that this process lacks.
    """
    names = job.settings.trackers
    check_trackers(names)
    tracker = make_trackers(names, folder, warn, job.settings.faults.non_finite == "roll_back")
    tracker.hyperparameters(to_settings(job.spec))
    try:
        yield tracker
    except BaseException:
        with waits.on("the trackers"):
            tracker.finish("failed", {})
        raise
    summary: Mapping[str, Any] = folder.summary() or {}
    for file in _files(job, folder, warn if names else lambda _: None):
        tracker.artifact(file)
    end: RunEnd = "finished" if summary.get("finished") else "stopped"
    with waits.on("the trackers"):
        tracker.finish(end, summary)


def _files(job: Job, folder: RunFolder, warn: Callable[[str], None]) -> Iterator[Path]:
    """Yield the files that belong to the model: with them it can be used elsewhere."""
    yield from (folder.job, folder.result, *(folder.path / name for name in job.task.files))
    if not folder.model.exists():
        return
    size = folder.model.stat().st_size
    if size <= _LARGEST_MODEL:
        yield folder.model
    else:
        warn(
            f"trackers: {folder.model} has {size / 2**20:,.0f} MiB and is not sent: trackers get "
            f"models of up to {_LARGEST_MODEL // 2**20} MiB"
        )
