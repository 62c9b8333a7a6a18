"""Trains one trial, and reports its score after each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from coordinator.experiments.sweep.definition import Definition, settings_of
from coordinator.experiments.sweep.one_process import train_in_one_process
from coordinator.experiments.sweep.record import SweepFolder, Trial
from coordinator.launch.train import train
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Evaluation, Event, Progress
from dfa_core import JobError, TrainingFailed


@dataclass(frozen=True)
class Epoch:
    """A trial's loss and score after an epoch, which are counted from 1."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class Ended:
    """How a trial ended: the epoch whose weights are its result, and its scores on the test data.

    failed: why it did not end well.
    """

    chosen: int
    test: Mapping[str, float]
    failed: str = ""


Report = Callable[[Epoch | Ended], None]


def train_trial(folder: SweepFolder, name: str, report: Report, device: torch.device) -> None:
    """Train a trial from its newest checkpoint to its end, and report how it goes.

    Epochs that were trained before are reported again.
    """
    try:
        sweep = folder.read()
        trial, run = sweep.trial(name), folder.run(name)
        for line in run.curve():
            if line["kind"] == "evaluation":
                score = line[sweep.definition.metric]
                report(Epoch(line["epoch"], line["loss"], score))
        summary: Mapping[str, Any] | None = run.summary()
        while summary is None or not summary["finished"]:  # one on blocks may be asked to stop
            summary = _train(sweep.definition, trial, run, report, device)
    except (JobError, TrainingFailed, OSError) as error:
        report(Ended(0, {}, " ".join(str(error).split())))
    except Exception as error:  # noqa: BLE001  # the user's code may raise anything
        what = (str(error).splitlines() or [""])[-1]
        report(Ended(0, {}, f"{type(error).__name__}: {what}"))
    else:
        report(_ended(run, summary))


def _train(
    sweep: Definition, trial: Trial, run: RunFolder, report: Report, device: torch.device
) -> Mapping[str, Any]:
    viewer = _Scores(sweep.metric, report)
    values = trial.values
    if "keep" not in sweep.settings.get("checkpoint", {}):
        values = {**values, "checkpoint.keep": 1}  # there are many trials
    if sweep.distributed:
        settings = settings_of(sweep.settings, trial.method, values)
        there = run.job.exists()
        return train(sweep.task, run_dir=run.path, resume=there, viewer=viewer, **settings).summary
    job = sweep.job(trial.method, values)
    if job.task.fetch is not None:
        job.task.fetch()  # on a node of its own
    torch.set_num_threads(job.settings.resources.threads)

    def emit(one: Event | Progress) -> None:
        if not isinstance(one, Progress):
            viewer.event(one)

    return train_in_one_process(job, run, emit, device)


class _Scores:
    """A viewer of a run that reports the score of each epoch."""

    def __init__(self, metric: str, report: Report) -> None:
        self._metric, self._report = metric, report
        self._data = ""  # the part that epochs are evaluated on, as the first one says

    def event(self, event: Event) -> None:
        """Report an evaluation of the part that epochs are evaluated on."""
        if isinstance(event, Evaluation):
            self._data = self._data or event.data
            if event.data == self._data:
                scores = event.scores
                self._report(Epoch(event.epoch, scores["loss"], scores[self._metric]))

    def progress(self, progress: Progress) -> None:
        """Do nothing: epochs alone count."""


def _ended(run: RunFolder, summary: Mapping[str, Any]) -> Ended:
    best = summary["best"]
    epochs = [line["epoch"] for line in run.curve() if line["kind"] == "evaluation"]
    return Ended(best["epoch"] if best else max(epochs), dict(summary["metrics"]))
