"""The learning rate falls where the loss does not, also of a run that is interrupted."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.in_process import train_here
from support.runs import weights
from support.tasks import noisy_task

from coordinator import train
from coordinator.runs.plateau import Plateau, next_plateau
from coordinator.training.events import (
    CheckpointWritten,
    Event,
    Progress,
    RateCut,
    Recovered,
    Warned,
    WorkersStarted,
)
from dfa_core import JobError

EPOCH = 5  # steps
JOB: dict[str, Any] = {
    "blocks": 2,
    "batch_size": 16,
    "microbatches": 2,
    "optimizer": {"lr": 0.01, "schedule": "plateau", "patience": 2},
    "log_every": 1,
    "checkpoint": {"keep": 3},
}


class Watcher:
    """A viewer that keeps the events; it may damage all checkpoints and kill the first worker."""

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.folder, self.kill_at, self.events = folder, kill_at, list[Event]()

    def event(self, event: Event) -> None:
        self.events.append(event)

    def progress(self, progress: Progress) -> None:
        if self.kill_at is not None and progress.step >= self.kill_at:
            self.kill_at = None
            for state in (self.folder / "checkpoints").rglob("*.safetensors"):
                state.write_bytes(bytes(len(state.read_bytes())))
            os.kill(self.of(WorkersStarted)[-1].processes[0], signal.SIGKILL)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_cut_after_patience_epochs_without_a_lower_loss() -> None:
    at, cuts = None, []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5, 2.1, 2.2, 1.9, 1.9], start=1):
        at, cut = next_plateau(at, epoch, loss, patience=2)
        cuts += [epoch] if cut else []
    assert cuts == [4, 6]
    assert at == Plateau(1.9, 7)


@pytest.mark.timeout(240)
def test_the_rate_follows_the_losses(a_ray: None, tmp_path: Path) -> None:
    watcher = Watcher(tmp_path / "whole")
    one = JOB | {"blocks": 1}
    whole = train(noisy_task(), run_dir=watcher.folder, epochs=25, viewer=watcher, **one)
    losses = [line["loss"] for line in whole.curves if line["kind"] == "evaluation"]
    at, rate, expected = None, 0.01, []
    for epoch, loss in enumerate(losses, start=1):
        expected += [rate] * EPOCH
        at, cut = next_plateau(at, epoch, loss, patience=2)
        rate *= 0.5 if cut else 1.0
    rates = [line["lr"] for line in whole.curves if line["kind"] == "train"]
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.01 / 4

    # a cut writes no checkpoint beside the one of each epoch, and joins the workers no second time
    assert len(watcher.of(RateCut)) >= 2
    assert [event.step for event in watcher.of(CheckpointWritten)] == [*range(0, 126, EPOCH)]
    assert len(watcher.of(WorkersStarted)) == 1

    # the same in one process, and on another number of blocks, going on in the middle
    first = train_here(noisy_task(), run_dir=tmp_path / "parts", epochs=11, **JOB)
    assert not first.summary["best"]
    train(noisy_task(), run_dir=tmp_path / "parts", epochs=25, resume=True, **one)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")

    # a worker dies after some cuts; no state file of a checkpoint could be read
    killer = Watcher(tmp_path / "killed", kill_at=watcher.of(RateCut)[1].step + 2)
    other = {"faults": {"snapshot_steps": 5}, "checkpoint": {"every_steps": 1000}}
    train(noisy_task(), run_dir=killer.folder, epochs=25, viewer=killer, **JOB | other)
    assert len(killer.of(Recovered)) == 1
    assert killer.of(Warned) == []
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_patience_is_at_least_one() -> None:
    with pytest.raises(JobError, match=r"optimizer.patience: 0 must be at least 1"):
        train(noisy_task(), optimizer={"patience": 0})
