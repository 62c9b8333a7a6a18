"""Reads what the trackers of a run hold, by their own readers, and what it should be."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.runs.trackers.wandb_files import rows

if TYPE_CHECKING:
    from mlflow import MlflowClient

Points = Counter[tuple[str, int, float]]


def logged_points(run_dir: Path) -> Points:
    """Return (metric, step, value) of each point in metrics.jsonl."""
    return Counter(
        (f"{line['kind']}/{name}", line["step"], float(value))
        for line in RunFolder(run_dir).curve()
        for name, value in line.items()
        if name not in ("kind", "step")
    )


def wandb_points(place: Path) -> Points:
    """Return the points in all of W&B's files below a folder."""
    found: Points = Counter()
    for file in sorted(place.glob("wandb/*run-*/*.wandb")):
        for row in rows(file):
            (step,) = (row[name] for name in row if name.endswith("/step"))
            values = {k: v for k, v in row.items() if "/" in k and not k.endswith("/step")}
            found.update((name, step, float(value)) for name, value in values.items())
    return found


def mlflow_run(run_dir: Path) -> tuple["MlflowClient", Any]:
    """Return a client, and the run that belongs to a run folder."""
    ids = TrackedIds(run_dir / "trackers.json", "mlflow").read()
    from mlflow import MlflowClient  # takes a second, in each process

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return client, client.get_run(ids["id"])


def mlflow_points(run_dir: Path) -> Points:
    """Return the points that MLflow's store holds of a run."""
    client, run = mlflow_run(run_dir)
    return Counter(
        (name, point.step, float(point.value))
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def same_but_speed(points: Points) -> Points:
    """Return points without the values of speed: a step that is computed again has another."""
    return Counter(
        {(n, s, 0.0 if n.endswith("samples_per_s") else v): k for (n, s, v), k in points.items()}
    )


def wandb_records(place: Path, kind: str) -> list[Any]:
    """Return W&B's records of a kind, such as "exit", from all files below a folder."""
    import subprocess
    import sys

    found = []
    for file in sorted(place.glob("wandb/*run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found += [r[kind] for r in map(json.loads, said.splitlines()) if r["type"] == kind]
    return found
