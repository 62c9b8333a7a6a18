"""Runs the trials of a sweep on Ray Tune; import it where Ray Tune is known to be installed."""

import os
import shutil
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import ray
from pydantic import TypeAdapter
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.stopper import Stopper

from coordinator.experiments.sweep.record import Sweep, SweepFolder, Trial
from coordinator.experiments.sweep.training import Ended, Epoch, train_trial
from coordinator.job.resolve import Job
from workers.gpu import device_here

_RETRIES = 2  # of a trial whose process died
_TUNES_FILES = ".tune"
_REPORT = "report"
_REPORTS: TypeAdapter[Epoch | Ended] = TypeAdapter(Epoch | Ended)
# no files for each trial, no handler of its own for Ctrl-C
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1e9",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_trials(
    folder: SweepFolder,
    sweep: Sweep,
    job: Job,
    stop_asked: Callable[[], bool],
    changed: Callable[[], None],
) -> None:
    """Run the trials that have not ended, side by side as the cluster allows; Ray must be there.

    Each report of a trial is written to sweep.json before the trial goes on.

    job: of any trial; it says what each needs. stop_asked: whether to end all of them now. changed:
    called when a trial has reported.

    Raises OSError where sweep.json cannot be written.
    """
    names = [trial.name for trial in sweep.waiting()]
    if not names:
        return
    scheduler = _Scheduler(folder, sweep, changed)
    cpus, gpus = job.settings.resources.cpus, job.settings.resources.gpus
    alone = not sweep.definition.distributed
    needed = {"cpu": cpus, "gpu": gpus} if alone else {"cpu": 0}  # its blocks reserve their own
    shutil.rmtree(folder.path / _TUNES_FILES, ignore_errors=True)
    for setting, value in _SETTINGS.items():
        os.environ.setdefault(setting, value)
    tune.run(
        _trainable,
        name="sweep",
        config={"folder": str(folder.path), "trial": tune.grid_search(names)},
        scheduler=scheduler,
        stop=_Asked(stop_asked),
        resources_per_trial=needed,
        max_concurrent_trials=None if alone else _side_by_side(job),
        max_failures=_RETRIES,
        reuse_actors=True,
        raise_on_failed_trial=False,
        storage_path=str(folder.path / _TUNES_FILES),
        verbose=0,
    )
    shutil.rmtree(folder.path / _TUNES_FILES, ignore_errors=True)


def _side_by_side(job: Job) -> int:
    """Return for how many jobs on blocks the cluster has room."""
    there, needed = ray.cluster_resources(), job.settings.resources
    rooms = [there.get("CPU", 0.0) / (needed.cpus * len(job.grid))]
    if needed.gpus:
        rooms.append(there.get("GPU", 0.0) / (needed.gpus * len(job.grid)))
    return max(1, int(min(rooms)))


def _trainable(config: dict[str, Any]) -> None:
    """Train one trial in a process of Tune's."""

    def report(what: Epoch | Ended) -> None:
        tune.report({_REPORT: _REPORTS.dump_json(what).decode()})  # Tune flattens dictionaries

    train_trial(SweepFolder(Path(config["folder"])), config["trial"], report, device_here())


class _Asked(Stopper):  # type: ignore[misc]  # Ray is untyped here
    """Ends all trials when the user asks for it."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return False: the scheduler ends a single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether the user has asked to stop."""
        return self._asked()


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Starts trials in their order, notes what they report, and stops the worse ones."""

    def __init__(self, folder: SweepFolder, sweep: Sweep, changed: Callable[[], None]) -> None:
        super().__init__()
        self._folder, self._sweep, self._changed = folder, sweep, changed

    def on_trial_result(self, _: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note a report; return whether the trial goes on."""
        found = self._sweep.trial(trial.config["trial"])
        if found.state == "waiting":
            _note(found, _REPORTS.validate_json(result[_REPORT]))
            self._keep()
        waits = found.state == "waiting"
        return str(FIFOScheduler.CONTINUE if waits else FIFOScheduler.STOP)

    def on_trial_error(self, _: Any, trial: Any) -> None:
        """Note a trial whose process died again and again."""
        found = self._sweep.trial(trial.config["trial"])
        if found.state == "waiting":
            found.end("failed", f"its process died {1 + _RETRIES} times")
            self._keep()

    def _keep(self) -> None:
        self._sweep.stop_the_worse()
        self._folder.keep(self._sweep)
        self._changed()


def _note(trial: Trial, what: Epoch | Ended) -> None:
    if isinstance(what, Epoch):
        _note_epoch(trial, what)
    elif what.failed:
        trial.end("failed", what.failed)
    else:
        trial.chosen, trial.test = what.chosen, dict(what.test)
        trial.end("finished")


def _note_epoch(trial: Trial, epoch: Epoch) -> None:
    if not (isfinite(epoch.loss) and isfinite(epoch.score)):
        what = f"loss {epoch.loss:g}, score {epoch.score:g} after epoch {epoch.epoch}"
        trial.end("failed", f"not finite: {what}")
    elif epoch.epoch == len(trial.scores) + 1:  # others were reported before
        trial.scores.append(epoch.score)
