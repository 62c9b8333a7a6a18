"""The learning rate falls where the loss does not, also of a run that is interrupted."""

from pathlib import Path
from typing import Any

import pytest
from support.runs import weights
from support.tasks import noisy_task

from coordinator import train
from coordinator.runs.plateau import Plateau, next_plateau
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


def test_a_cut_after_patience_epochs_without_a_lower_loss() -> None:
    at, cuts = None, []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5, 2.1, 2.2, 1.9, 1.9], start=1):
        at, cut = next_plateau(at, epoch, loss, patience=2)
        cuts += [epoch] if cut else []
    assert cuts == [4, 6]
    assert at == Plateau(1.9, 7)


@pytest.mark.timeout(240)
def test_the_rate_follows_the_losses(a_ray: None, tmp_path: Path) -> None:
    whole = train(noisy_task(), run_dir=tmp_path / "whole", epochs=25, **JOB)
    losses = [line["loss"] for line in whole.curves if line["kind"] == "evaluation"]
    at, rate, expected = None, 0.01, []
    for epoch, loss in enumerate(losses, start=1):
        expected += [rate] * EPOCH
        at, cut = next_plateau(at, epoch, loss, patience=2)
        rate *= 0.5 if cut else 1.0
    rates = [line["lr"] for line in whole.curves if line["kind"] == "train"]
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.01 / 4

    # the same in one process, and on another number of blocks, going on in the middle
    first = train(noisy_task(), run_dir=tmp_path / "parts", epochs=11, **JOB)
    assert not first.summary["best"]
    train(noisy_task(), run_dir=tmp_path / "parts", epochs=25, resume=True, **JOB | {"blocks": 1})
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_patience_is_at_least_one() -> None:
    with pytest.raises(JobError, match=r"optimizer.patience: 0 must be at least 1"):
        train(noisy_task(), optimizer={"patience": 0})
