"""MLflow: a run in its store, which a resume continues: a database, a folder or a server."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.runs.trackers.tracker import Line, RunEnd, Tracker, tag, values_of

_EXPERIMENT = "errorcast"
_KEY = "errorcast.run"  # a tag: finds the run again that was created when its id was not yet saved
_SQLITE = "sqlite:///"
_STATES: Mapping[RunEnd, str] = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE, _LONGEST_VALUE = 1000, 100, 5000  # MLflow's own limits


class MlflowRun(Tracker):
    """A metric for each value of a line, such as train/loss, at the line's step."""

    def __init__(self, folder: Path, ids: TrackedIds, warn: Callable[[str], None]) -> None:
        """folder: the run's; its name is the name of the run in MLflow."""
        self._folder, self._ids, self._warn = folder, ids, warn
        self._client: Any = None
        self._id = ""
        self._last: dict[str, int] = {}  # the last step that MLflow holds, by metric

    def begin(self, lines: Sequence[Line]) -> None:
        """Continue the run, or begin one; send the points that it lacks.

        Asks MLflow each time what it holds: a call that failed may have had its effect.

        Raises what mlflow raises.
        """
        run = self._open()
        self._id = run.info.run_id
        self._last = {
            name: max(point.step for point in self._client.get_metric_history(self._id, name))
            for name in run.data.metrics
        }
        self._client.update_run(self._id, status="RUNNING")
        self.metrics(lines)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Log the settings as parameters.

        A parameter cannot be changed. What a resume changes, e.g. the number of epochs, becomes a
        tag of the same name.
        """
        from mlflow.entities import Param, RunTag  # noqa: PLC0415  # optional

        given = dict(_flat(values))
        there = self._client.get_run(self._id).data.params
        changed = [RunTag(k, v) for k, v in given.items() if there.get(k, v) != v]
        new = iter([Param(k, v) for k, v in given.items() if k not in there])
        while some := list(islice(new, _PARAMETERS_AT_ONCE)):
            self._client.log_batch(self._id, params=some)
        self._client.log_batch(self._id, tags=changed)

    def metrics(self, lines: Sequence[Line]) -> None:
        """Log the points that MLflow lacks. Raises what mlflow raises."""
        from mlflow.entities import Metric  # noqa: PLC0415  # optional

        lacking, now = self._lacking(lines), int(time() * 1000)
        points = iter([Metric(name, value, now, step) for name, value, step in lacking])
        while some := list(islice(points, _METRICS_AT_ONCE)):
            self._client.log_batch(self._id, metrics=some)

    def artifact(self, file: Path) -> None:
        """Upload a file. Raises what mlflow raises."""
        self._client.log_artifact(self._id, str(file))

    def finish(self, end: RunEnd, summary: Mapping[str, Any]) -> None:
        """Set the run's state, and the summary as tags."""
        from mlflow.entities import RunTag  # noqa: PLC0415  # optional

        tags = [RunTag(f"summary.{name}", value) for name, value in _flat(summary)]
        self._client.log_batch(self._id, tags=[RunTag("state", end), *tags])
        self._client.set_terminated(self._id, _STATES[end])

    def _lacking(self, lines: Sequence[Line]) -> Iterator[tuple[str, float, int]]:
        """Yield name, value and step of each point that MLflow does not hold; note that it will."""
        for line in lines:
            step = line["step"]
            for name, value in values_of(line).items():
                # of other characters MLflow takes none
                known = re.sub(r"[^\w\-./ :]", "_", tag(line, name))
                if step > self._last.get(known, -1):
                    self._last[known] = step
                    yield known, float(value), step

    def _open(self) -> Any:
        """Return the run; create it if there is none."""
        import mlflow  # noqa: PLC0415  # optional

        for name, value in _PATIENCE.items():  # the caller tries again, so that this may fail soon
            os.environ.setdefault(name, value)
        known = self._ids.read()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or known.get("uri") or mlflow.get_tracking_uri()
        key = known.get("key") or uuid4().hex
        if not known:
            self._ids.write(key=key, uri=_without_password(uri))
        if uri.startswith(_SQLITE) and "?" not in uri:
            _create_database(Path(uri.removeprefix(_SQLITE)))
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        run_id = known.get("id") or os.environ.get("MLFLOW_RUN_ID")
        run = self._find(run_id, key) or self._create(uri, key)
        self._ids.write(id=run.info.run_id, key=key, uri=_without_password(uri))
        return run

    def _find(self, run_id: str | None, key: str) -> Any:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415  # optional

        if run_id is not None:
            try:
                return self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self._warn(f"mlflow: there is no run {run_id} any more; it is begun again")
        experiments = [one.experiment_id for one in self._client.search_experiments()]
        found = self._client.search_runs(experiments, f"tags.`{_KEY}` = '{key}'", max_results=1)
        return found[0] if found else None

    def _create(self, uri: str, key: str) -> Any:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment(uri, name)
        tags = {_KEY: key, "mlflow.source.name": "errorcast"}
        return self._client.create_run(experiment, run_name=self._folder.name, tags=tags)

    def _experiment(self, uri: str, name: str) -> str:
        """Return the experiment's id; create it if there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if uri.startswith(_SQLITE):  # MLflow would take the current folder, which is none of ours
            place = str(Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlruns")
        return str(self._client.create_experiment(name, artifact_location=place))


def _create_database(path: Path) -> None:
    """Create MLflow's database all at once: one that a kill left unfinished cannot be opened."""
    import mlflow  # noqa: PLC0415  # optional

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}")
    mlflow.MlflowClient(tracking_uri=f"{_SQLITE}{unfinished}").search_experiments(max_results=1)
    with suppress(FileExistsError):  # another run has created it meanwhile
        os.link(unfinished, path)
    unfinished.unlink()


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as texts, with names such as optimizer.lr."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            known = re.sub(r"[^\w\-./ :]", "_", f"{above}{name}")
            yield known, str(value)[:_LONGEST_VALUE]


def _without_password(uri: str) -> str:
    """Return a URI without the user and the password in it."""
    parts = urlsplit(uri)
    if not parts.netloc:  # a path: urlunsplit() would change its slashes
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
