"""Makes the trackers that a job chooses, and finds what they need of the environment."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from coordinator.job.trackers import check_store
from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers.background import Background
from coordinator.runs.trackers.mlflow_run import MlflowRun
from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.runs.trackers.tracker import Tracker, TrackerGroup
from coordinator.runs.trackers.wandb_run import WandbRun

_MADE = {"mlflow": MlflowRun, "wandb": WandbRun}
_PREFIXES = ("DATABRICKS_", "MLFLOW_", "WANDB_")
_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
_LOCAL = ("sqlite:///", "file:")


def make_trackers(
    names: Sequence[str], folder: RunFolder, warn: Callable[[str], None], rolls_back: bool
) -> Tracker:
    """Make the trackers of these names, each on a thread of its own.

    warn: gets what the user should know.
    rolls_back: the run may go back and compute steps again, with other numbers.
    """
    return TrackerGroup(
        [
            Background(
                name,
                _MADE[name](folder.path, TrackedIds(folder.trackers, name), warn),
                folder.metrics,
                warn,
                rolls_back,
            )
            for name in names
        ]
    )


def tracker_environment(names: Sequence[str], folder: RunFolder) -> dict[str, str]:
    """Return the environment variables that these trackers read, for a process elsewhere.

    Relative paths in them start in the current folder. They may hold secrets: they go nowhere but
    to the process that trains.
    """
    if not names:
        return {}
    found = {name: os.environ[name] for name in os.environ if name.startswith(_PREFIXES)}
    for name in _FOLDERS:
        if found.get(name):
            found[name] = str(Path(found[name]).expanduser().absolute())
    uri = found.get("MLFLOW_TRACKING_URI", "")
    if uri:
        found["MLFLOW_TRACKING_URI"] = _absolute(uri)
    elif "mlflow" in names and not TrackedIds(folder.trackers, "mlflow").read():
        import mlflow  # noqa: PLC0415  # optional

        found["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()  # in the current folder
        check_store(found["MLFLOW_TRACKING_URI"])
    return found


def _absolute(uri: str) -> str:
    for start in _LOCAL:
        path = uri.removeprefix(start)
        if path != uri:
            return uri if path.startswith("/") else f"{start}{Path(path).absolute()}"
    return uri if ":" in uri or uri.startswith("databricks") else str(Path(uri).absolute())
