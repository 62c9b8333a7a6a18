"""A run ends with its best epoch's weights, and ends early when no epoch is better."""

from pathlib import Path
from typing import Any

import pytest
from support.in_process import train_here
from support.runs import weights
from support.tasks import noisy_task

from coordinator import train
from coordinator.inspection.saved_run import open_run
from coordinator.runs.early_stopping import Best, EarlyStopping
from dfa_core import JobError

NAN = float("nan")


def follow(metric: str, patience: int, values: list[float]) -> tuple[Best | None, int]:
    """Return the best, and the epoch at which it was over."""
    early, best = EarlyStopping(metric, patience), None
    for epoch, value in enumerate(values, start=1):
        best = early.better(best, 10 * epoch, epoch, {metric: value}) or best
        if early.over(best, epoch):
            return best, epoch
    return best, len(values)


def test_the_least_loss_and_the_most_of_others() -> None:
    assert follow("loss", 0, [3, 1, 2]) == (Best(20, 2, 1), 3)
    assert follow("auc", 0, [0.5, 0.7, 0.6]) == (Best(20, 2, 0.7), 3)


def test_it_ends_after_patience_epochs_without_a_better_one() -> None:
    assert follow("auc", 2, [0.5, 0.7, 0.7, 0.6, 0.9]) == (Best(20, 2, 0.7), 4)
    assert follow("auc", 2, [0.5, 0.4, 0.6, 0.5, 0.7]) == (Best(50, 5, 0.7), 5)


def test_nan_is_never_the_best() -> None:
    assert follow("loss", 0, [NAN, 2.0, NAN]) == (Best(20, 2, 2.0), 3)
    assert follow("auc", 1, [NAN, NAN, 0.7]) == (None, 1)
    assert follow("auc", 2, [0.5, NAN, NAN, 0.7]) == (Best(10, 1, 0.5), 3)


JOB: dict[str, Any] = {
    "blocks": 2,
    "batch_size": 16,
    "microbatches": 2,
    "optimizer": {"lr": 0.01},
    "stopping": {"metric": "loss", "patience": 3},
}


def test_the_weights_and_the_test_are_of_the_best_epoch(a_ray: None, tmp_path: Path) -> None:
    whole = train(noisy_task(), run_dir=tmp_path / "whole", epochs=60, **JOB)
    assert whole.summary["finished"]
    best, steps = whole.summary["best"], whole.summary["steps"]
    validation = [line["loss"] for line in whole.curves if line["kind"] == "evaluation"]
    assert best["value"] == min(validation)
    assert best["epoch"] == 1 + validation.index(min(validation))
    assert steps == 5 * (best["epoch"] + 3) < 5 * 60
    (tested,) = [line for line in whole.curves if line["kind"] == "test"]
    assert tested["step"] == best["step"]
    assert tested["loss"] == whole.metrics["loss"]
    shorter = {**JOB, "stopping": {}}
    until = train_here(noisy_task(), run_dir=tmp_path / "until", epochs=best["epoch"], **shorter)
    assert weights(tmp_path / "until") == weights(tmp_path / "whole")
    assert until.metrics["loss"] == pytest.approx(whole.metrics["loss"])


def test_a_run_that_was_interrupted_chooses_the_same(a_ray: None, tmp_path: Path) -> None:
    train_here(noisy_task(), run_dir=tmp_path / "whole", epochs=60, **JOB)
    train_here(noisy_task(), run_dir=tmp_path / "parts", epochs=2, **JOB)
    again = train(noisy_task(), run_dir=tmp_path / "parts", epochs=60, resume=True, **JOB)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert len([line for line in again.curves if line["kind"] == "test"]) == 1


def test_the_best_checkpoint_is_kept_and_taken_up(tmp_path: Path) -> None:
    job = {**JOB, "stopping": {"metric": "loss"}, "checkpoint": {"keep": 1}}
    run = train_here("digits", run_dir=tmp_path / "run", epochs=2, options={"width": 32}, **job)
    assert open_run(tmp_path / "run").scores()["loss"] == run.metrics["loss"]


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(JobError, match=r"stopping\.metric: unknown 'acuracy'; .*accuracy"):
        train("digits", stopping={"metric": "acuracy"})
