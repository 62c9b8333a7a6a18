"""A user's own code in a run: what it is told and when, and how it ends the run."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import errorcast
import pytest
from support.in_process import train_here
from support.runs import Listener, weights
from support.tasks import noisy_task

from coordinator import train
from coordinator.training.events import CheckpointWritten, FaultSeen
from dfa_core import JobError, TrainingFailed
from dfa_tasks import Callback, StopTraining

JOB: dict[str, Any] = {"blocks": 1, "batch_size": 16, "microbatches": 1, "epochs": 3}  # 15 steps


class Noting(Callback):
    """Writes down what it is told; at one call it does something else."""

    def __init__(self, at: tuple[str, int] | None = None, error: Exception | None = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.losses: dict[int, float] = {}
        self.scores: list[Mapping[str, float]] = []
        self.paths: list[str] = []
        self.at, self.error = at, error

    def _told(self, what: str, step: int) -> None:
        self.told.append((what, step))
        if (what, step) == self.at and self.error is not None:
            raise self.error

    def on_step(self, step: int, loss: float) -> None:
        self.losses[step] = loss
        self._told("step", step)

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self.scores.append(scores)
        self._told("evaluation", step)

    def on_checkpoint(self, step: int, path: str) -> None:
        self.paths.append(path)
        self._told("checkpoint", step)


def test_all_is_told_in_its_order(tmp_path: Path) -> None:
    noting = Noting()
    run = train_here(replace(noisy_task(), callbacks=(noting,)), tmp_path, log_every=1, **JOB)
    epochs = [
        [*(("step", n) for n in range(first, first + 5)), ("evaluation", first + 4)]
        for first in (1, 6, 11)
    ]
    expected = [("checkpoint", 0)]
    for epoch in epochs:
        expected += [*epoch, ("checkpoint", epoch[-1][1])]
    assert noting.told == expected
    logged = {line["step"]: line["loss"] for line in run.curves if line["kind"] == "train"}
    assert noting.losses == logged
    assert noting.scores[-1]["loss"] == run.curves[-2]["loss"]
    assert all(Path(path).is_dir() for path in noting.paths[-2:])


@pytest.mark.parametrize("at", [("step", 7), ("evaluation", 5), ("checkpoint", 5), ("step", 15)])
def test_one_that_fails_ends_the_run_and_a_resume_continues(
    tmp_path: Path, at: tuple[str, int]
) -> None:
    failing, other = Noting(at, ValueError("no\nmore")), Noting()
    task = replace(noisy_task(), callbacks=(failing, other))
    message = f"callback Noting: on_{at[0]} of step {at[1]} raised ValueError: no more$"
    with pytest.raises(TrainingFailed, match=message):
        train_here(task, tmp_path / "run", **JOB)
    assert failing.told[-1] == at
    assert other.told == failing.told[:-1]  # nothing after the failure
    run = train_here(noisy_task(), tmp_path / "run", resume=True, **JOB)
    assert run.summary["finished"]
    assert weights(run.folder) == weights(train_here(noisy_task(), tmp_path / "b", **JOB).folder)


@pytest.mark.parametrize(("at", "end"), [(("evaluation", 10), 10), (("checkpoint", 5), 5)])
def test_one_that_asks_for_the_end(tmp_path: Path, at: tuple[str, int], end: int) -> None:
    task = replace(noisy_task(), callbacks=(Noting(at, StopTraining("good enough")),))
    run = train_here(task, tmp_path / "run", **JOB)
    assert (run.summary["steps"], run.summary["finished"]) == (end, True)
    assert run.summary["stopped_by"] == "Noting: good enough"
    assert run.curves[-1]["kind"] == "test"
    run = train_here(noisy_task(), tmp_path / "run", resume=True, **JOB)
    assert (run.summary["steps"], "stopped_by" in run.summary) == (15, False)


def test_a_stop_in_the_middle_of_an_epoch_is_evaluated_there(tmp_path: Path) -> None:
    task = replace(noisy_task(), callbacks=(Noting(("step", 1), StopTraining()),))
    run = train_here(task, tmp_path / "run", **JOB)
    assert run.summary["stopped_by"] == "Noting"
    evaluated = [line["step"] for line in run.curves if line["kind"] == "evaluation"]
    assert evaluated == [run.summary["steps"]]
    assert run.summary["steps"] < 5


@pytest.mark.parametrize("wrong", [Noting, print])
def test_what_is_no_callback_is_refused(wrong: object) -> None:
    with pytest.raises(JobError, match=r"^callbacks: (Noting is a class|a builtin\w+ is no)"):
        replace(noisy_task(), callbacks=(wrong,))


def test_they_are_public() -> None:
    assert (errorcast.Callback, errorcast.StopTraining) == (Callback, StopTraining)


class Slow(Callback):
    """Takes longer than the time after which a silent process counts as hung."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def on_step(self, step: int, loss: float) -> None:
        with self.log.open("a") as file:
            file.write(f"{step} {loss}\n")
        if step == 6:
            time.sleep(5)


def test_a_slow_one_is_no_fault(a_ray: None, tmp_path: Path) -> None:
    """Its code is pickled and runs in the coordinator's process, between the steps of workers."""
    listener, log = Listener(), tmp_path / "log"
    job = {**JOB, "resources": {"timeout_s": 2.0}, "log_every": 1}
    task = replace(noisy_task(), callbacks=(Slow(log),))
    run = train(task, callbacks=[Callback()], run_dir=tmp_path / "run", viewer=listener, **job)
    assert [event for event in listener.events if isinstance(event, FaultSeen)] == []
    logged = [(line["step"], line["loss"]) for line in run.curves if line["kind"] == "train"]
    told = [line.split() for line in log.read_text().splitlines()]
    assert [(int(step), float(loss)) for step, loss in told] == logged
    assert [event.step for event in listener.events if isinstance(event, CheckpointWritten)]
