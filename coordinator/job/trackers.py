"""Which trackers a job can name, and what they need to be installed."""

import os
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

from dfa_core.errors import JobError
from dfa_core.names import nearest

TRACKERS = ("mlflow", "wandb")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check_trackers(names: Sequence[str]) -> None:
    """Raise JobError for a tracker that is unknown, named twice, or cannot be imported here."""
    for name, times in Counter(names).items():
        if name not in TRACKERS:
            raise JobError(
                f"trackers: unknown '{name}'; {nearest(name, TRACKERS)} (metrics.jsonl and "
                f"TensorBoard's events are always written)"
            )
        if times > 1:
            raise JobError(f"trackers: {name} is named {times} times; name it once")
        _require(name, name)
    if "mlflow" in names:
        check_store(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def check_store(uri: str) -> None:
    """Raise JobError where MLflow would refuse this store."""
    if uri.startswith("databricks"):
        return
    scheme = uri.partition(":")[0].partition("+")[0] if ":" in uri else "file"
    if scheme in _DATABASES:
        for package in ("sqlalchemy", "alembic"):
            _require("mlflow", package)
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    if scheme == "file" and not allowed:
        raise JobError(
            f"trackers: mlflow: MLFLOW_TRACKING_URI={uri} is a folder, which MLflow refuses unless "
            f"MLFLOW_ALLOW_FILE_STORE=true is set; set that, or use sqlite:///mlflow.db"
        )


def _require(tracker: str, package: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:  # no origin: a folder of data that has this name
        raise JobError(
            f"trackers: {tracker} needs the package {package}, which is not installed; run: "
            f"pip install 'errorcast[{tracker}]'"
        )
