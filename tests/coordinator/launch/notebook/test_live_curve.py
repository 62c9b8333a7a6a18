"""The picture's numbers, and that they stay few."""

import math

import pytest

from coordinator.launch.notebook.live_curve import LiveCurve
from coordinator.training.events import Evaluation, Metrics, Progress, RolledBack, TrainingStarted


def progress(step: int, loss: float = 1.0) -> Progress:
    return Progress(step, 100_000, step * 64, loss, 0.01, [])


def test_status_says_epoch_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("coordinator.launch.notebook.live_curve.monotonic", lambda: now)
    curve = LiveCurve("digits", epochs=10)
    assert curve.status() == "starting"
    curve.progress(progress(100))
    assert curve.status() == "epoch 1/10"
    now += 10.0
    curve.progress(progress(10_100))
    assert curve.status() == "epoch 2/10, 64,000 samples/s, 1:30 left"
    now += 3990.0
    assert curve.status() == "epoch 2/10, 160 samples/s, 9:59:20 left"
    curve.progress(progress(100_000))
    assert curve.status().startswith("epoch 10/10, ")


def test_a_long_run_keeps_few_points_and_the_newest() -> None:
    curve = LiveCurve("digits", epochs=1)
    for step in range(1, 10_001):
        curve.progress(progress(step))
    assert 1000 <= len(curve.losses) <= 2000
    assert 10_000 in curve.losses
    gaps = {b - a for a, b in zip(sorted(curve.losses), sorted(curve.losses)[1:], strict=False)}
    assert max(gaps) <= 16


def test_older_losses_that_are_reported_later_are_drawn_too() -> None:
    curve = LiveCurve("digits", epochs=1)
    curve.progress(progress(5))
    curve.progress(progress(45))
    for step in (10, 20, 30, 40):
        curve.event(Metrics(step, 1.0, 0.1, 1.0))
    curve.progress(progress(60))
    assert sorted(curve.losses) == [5, 10, 20, 30, 40, 45, 60]


def test_a_run_that_goes_back_draws_what_counts() -> None:
    earlier = [
        {"kind": "train", "step": 10, "loss": 2.0, "lr": 0.1, "samples_per_s": 1.0},
        {"kind": "evaluation", "step": 20, "epoch": 1, "loss": 1.5, "accuracy": 0.5},
        {"kind": "train", "step": 25, "loss": 1.4, "lr": 0.1, "samples_per_s": 1.0},
    ]
    curve = LiveCurve("digits", epochs=4, earlier=earlier)
    curve.event(TrainingStarted(20, 80))
    curve.event(Metrics(30, 1.0, 0.1, 1.0))
    curve.event(Evaluation(40, 2, 4, "test", {"loss": 0.9, "accuracy": 0.7}))
    curve.progress(progress(41, loss=math.nan))
    curve.event(RolledBack(40, 0.05, "NaN"))
    assert curve.losses == {10: 2.0, 30: 1.0}
    assert [*curve.scores] == [20, 40]


def test_any_curve_can_be_drawn() -> None:
    curve = LiveCurve("digits", epochs=4)
    for loss in (None, math.nan, math.inf, 0.0, -1.0):
        if loss is not None:
            curve.progress(progress(3, loss))
        assert curve.png(curve.status()).startswith(b"\x89PNG")
    curve.event(Evaluation(4, 1, 4, "test", {"loss": 0.9}))  # a task without metrics
    curve.event(Evaluation(8, 2, 4, "test", {"loss": 0.8, "rmse": 0.7, "auc": 0.5}))
    assert len(curve.png("finished")) < 60_000
