"""Runs the trials of a sweep on Ray Tune; import it where Ray Tune is known to be installed."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.stopper import Stopper

from coordinator.experiments.sweep.record import Sweep, SweepFolder, Trial
from coordinator.experiments.sweep.training import Ended, Epoch, train_trial
from coordinator.job.resolve import Job
from dfa_core import JobError, TrainingFailed
from workers.gpu import device_here
from workers.placement import WorkerResources, check_fits

_RETRIES = 2  # of a trial whose process died
_TUNES_FILES = ".tune"
_CONTINUE = "continue with --resume"
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

    All of them are in sweep.json before they start, and each report before the trial continues.

    job: of any trial; it says what each needs. stop_asked: whether to end all of them now. changed:
    called when a trial has reported.

    Raises JobError where no trial fits the cluster, and TrainingFailed where sweep.json cannot be
    written any more, or Tune itself fails.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a stack trace for each lost process
    for setting, value in _SETTINGS.items():
        os.environ.setdefault(setting, value)
    _check_room(job, not sweep.definition.distributed)
    folder.keep(sweep)
    scheduler = _Scheduler(folder, sweep, changed)
    stopper = _Asked(lambda: stop_asked() or scheduler.unwritten is not None)
    for _ in range(1 + _RETRIES):  # Tune gives up a trial whose process dies while it starts
        if sweep.waiting() and not stopper.stop_all():
            _run(folder, sweep, job, scheduler, stopper)
    if not stopper.stop_all():
        scheduler.lost(sweep.waiting())
    if scheduler.unwritten is not None:
        raise TrainingFailed(f"{scheduler.unwritten}; {_CONTINUE}") from scheduler.unwritten


def _run(
    folder: SweepFolder, sweep: Sweep, job: Job, scheduler: "_Scheduler", stopper: "_Asked"
) -> None:
    names, alone = [trial.name for trial in sweep.waiting()], not sweep.definition.distributed
    tunes_files = folder.path / _TUNES_FILES
    try:
        tune.run(
            _trainable,
            name="sweep",
            config={"folder": str(folder.path), "trial": tune.grid_search(names)},
            scheduler=scheduler,
            stop=stopper,
            resources_per_trial=tune.PlacementGroupFactory([_needed(job, alone)]),
            max_concurrent_trials=None if alone else _side_by_side(job),
            max_failures=_RETRIES,
            reuse_actors=True,
            raise_on_failed_trial=False,
            storage_path=str(tunes_files),
            verbose=0,
        )
    except TuneError as error:
        why = str(error).splitlines()[-1]
        raise TrainingFailed(f"Ray Tune ended the sweep: {why}; {_CONTINUE}") from error
    finally:
        shutil.rmtree(tunes_files, ignore_errors=True)


def _check_room(job: Job, alone: bool) -> None:
    """Raise JobError where a trial would wait for ever."""
    asked = job.settings.resources
    if not alone:
        check_fits(len(job.grid), WorkerResources(asked.cpus, asked.gpus))
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0.0) >= asked.cpus and node.get("GPU", 0.0) >= asked.gpus for node in nodes
    ):
        raise JobError(
            f"a trial needs {asked.cpus:g} CPU and {asked.gpus:g} GPU, and no node has both; "
            f"ask for less (resources.cpus, resources.gpus)"
        )


def _needed(job: Job, alone: bool) -> dict[str, float]:
    """Return what Tune reserves for a trial; the blocks of a distributed one reserve their own."""
    if not alone:
        return {"memory": 1.0}  # a byte: Tune does not take nothing at all
    resources = job.settings.resources
    return {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}


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
        tune.report({type(what).__name__: json.dumps(asdict(what))})  # Tune flattens dictionaries

    train_trial(SweepFolder(Path(config["folder"])), config["trial"], report, device_here())


class _Asked(Stopper):  # type: ignore[misc]  # Ray is untyped here
    """Ends all trials when the user asks for it."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return False: the scheduler ends a single trial."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune writes its own state, which a sweep does not need."""
        return {}

    def stop_all(self) -> bool:
        """Return whether the user has asked to stop."""
        return self._asked()


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Starts trials in their order, notes what they report, and stops the worse ones."""

    def __init__(self, folder: SweepFolder, sweep: Sweep, changed: Callable[[], None]) -> None:
        super().__init__()
        self._folder, self._sweep, self._changed = folder, sweep, changed
        self.unwritten: OSError | None = None  # why sweep.json could not be written

    def on_trial_result(self, _: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note a report; return whether the trial continues."""
        found = self._sweep.trial(trial.config["trial"])
        if found.state == "waiting":
            _note(found, result)
            self._keep()
        waits = found.state == "waiting"
        return str(FIFOScheduler.CONTINUE if waits else FIFOScheduler.STOP)

    def lost(self, trials: Sequence[Trial]) -> None:
        """Note trials of which Tune has lost the process, or cannot start one."""
        for trial in trials:
            if trial.state == "waiting":
                trial.end("failed", f"its process died, or could not be started{_on_a_cluster()}")
                self._keep()

    def _keep(self) -> None:
        self._sweep.stop_the_worse()
        try:
            self._folder.keep(self._sweep)
        except OSError as error:
            self.unwritten = error
        self._changed()


def _on_a_cluster() -> str:
    shared = len(ray.nodes()) > 1
    return "; on a cluster, a sweep's folder must be on a shared file system" if shared else ""


def _note(trial: Trial, result: dict[str, Any]) -> None:
    if Epoch.__name__ in result:
        _note_epoch(trial, Epoch(**json.loads(result[Epoch.__name__])))
    elif Ended.__name__ in result:
        _note_end(trial, Ended(**json.loads(result[Ended.__name__])))


def _note_end(trial: Trial, ended: Ended) -> None:
    if ended.failed:
        trial.end("failed", ended.failed)
    else:
        trial.chosen, trial.test = ended.chosen, dict(ended.test)
        trial.end("finished")


def _note_epoch(trial: Trial, epoch: Epoch) -> None:
    if not (isfinite(epoch.loss) and isfinite(epoch.score)):
        what = f"loss {epoch.loss:g}, score {epoch.score:g} after epoch {epoch.epoch}"
        trial.end("failed", f"not finite: {what}")
    elif epoch.epoch == len(trial.scores) + 1:  # others were reported before
        trial.scores.append(epoch.score)
