"""A job under kills and stops ends with the bits of an undisturbed one."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from support import drawing_task
from support.command_line import run_errorcast

from coordinator.experiments.chaos import (
    COORDINATOR,
    Fault,
    FaultInjector,
    Outcome,
    draw,
    run_under_faults,
)
from coordinator.launch.train import train
from workers.grid import Grid

DRAWING = f"{drawing_task.__file__}:make_task"
EXAMPLE = f"{Path(__file__).parents[3] / 'docs' / 'examples' / 'mytask.py'}:make_task"
QUICK: dict[str, Any] = {"log_every": 1, "resources": {"timeout_s": 10}}


def all_recovered(found: Outcome) -> dict[str, Any]:
    sums = found.summary()
    assert sums["same_weights"]
    assert sums["same_losses"]
    assert sums["faults"] == sums["planned"] == sums["recoveries"], found.faults
    return sums


def under_faults(
    folder: Path, task: str, kills: int, stops: int, seed: int, **settings: Any
) -> Outcome:
    reported: list[str] = []
    return run_under_faults(
        task, {**QUICK, **settings}, folder, kills, stops, seed, stop_s=20, report=reported.append
    )


def test_the_same_seed_draws_the_same_faults() -> None:
    once, again = (draw(5, 7, 3, 3, 600) for _ in range(2))
    assert once == again
    assert once != draw(6, 7, 3, 3, 600)
    assert sorted(s.action for s in once) == ["kill"] * 7 + ["stop"] * 3
    assert all(COORDINATOR <= s.victim <= 3 and 0 < s.step < 600 for s in once)
    assert [s.step for s in once] == sorted(s.step for s in once)


@pytest.mark.endurance
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("task", [EXAMPLE, DRAWING])
def test_whatever_a_task_draws_twenty_seeds_give_the_same_bits(
    a_ray: None, tmp_path: Path, task: str
) -> None:
    struck = 0
    for seed in range(20):
        found = run_under_faults(
            task, {**QUICK, "seed": seed, "epochs": 60}, tmp_path / f"{seed}", 1, 0, seed,
            stop_s=20, report=lambda _: None,
        )  # fmt: skip
        assert found.same_weights, seed
        assert found.same_losses, seed
        struck += int(found.summary()["faults"])
    assert struck >= 10  # some runs are over before the moment of their fault


DELAYED: dict[str, Any] = {"staleness": 1, "resources": {"backward_schedule": "zero_bubble"}}


@pytest.mark.endurance
@pytest.mark.timeout(400)
@pytest.mark.parametrize("method", [{}, {"method": "bp"}, {"method": "bp", **DELAYED}])
def test_ten_kills_and_the_same_bits(a_ray: None, tmp_path: Path, method: dict[str, Any]) -> None:
    """Workers and the coordinator's process of a job on three blocks."""
    small: dict[str, Any] = {"blocks": 3, "epochs": 60, "options": {"width": 64}, **method}
    found = under_faults(tmp_path, "digits", kills=10, stops=0, seed=3, **small)
    sums = all_recovered(found)
    assert {s.victim for s in found.faults} >= {COORDINATOR, 1, 2}
    assert sums["recovery_s"]["longest"] < 60  # a bound against hanging; the figures are measured


@pytest.mark.endurance
@pytest.mark.timeout(240)
def test_a_stopped_worker_hangs_and_is_replaced(a_ray: None, tmp_path: Path) -> None:
    found = under_faults(
        tmp_path, "digits", kills=0, stops=2, seed=1, blocks=2, epochs=20, options={"width": 64}
    )
    all_recovered(found)
    assert {s.victim > 0 for s in found.faults} == {True, False}  # a worker, the coordinator


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("kills", "stops", "seed"),
    [
        pytest.param(1, 0, 3, marks=pytest.mark.ray),
        pytest.param(1, 1, 7, marks=pytest.mark.endurance),
        pytest.param(2, 1, 38, marks=pytest.mark.endurance),
    ],
)
def test_the_command_prints_what_came_of_it(
    a_ray: None, tmp_path: Path, kills: int, stops: int, seed: int
) -> None:
    """The seeds kill the coordinator, then a worker too, and stop a worker as if it hung.

    The task draws wherever a user's code can: its bits are those of the job's seed all the same.
    """
    done = run_errorcast(
        "chaos", DRAWING, "--kills", str(kills), "--stops", str(stops), "--stop-s", "10",
        "--seed", str(seed), "--epochs", "25", "--format", "json", "--out", "both",
        "--set", "resources.timeout_s=3", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["faults"] == found["recoveries"] == kills + stops
    assert found["same_weights"] and found["same_losses"]  # noqa: PT018
    assert found["steps_repeated"] == sum(s["repeated"] for s in found["strikes"])
    struck = {(s["action"], s["victim"] > COORDINATOR) for s in found["strikes"]}
    expected = {("kill", False), ("kill", kills > 1), *[("stop", True)] * stops}
    assert struck == expected
    assert "(raylet)" not in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "both" / "faults" / "model.safetensors").is_file()


@pytest.mark.endurance
@pytest.mark.timeout(3000)
def test_two_hundred_kills_and_the_same_bits(a_ray: None, tmp_path: Path, real_data: Path) -> None:
    """Digits and Fashion-MNIST on 2 to 4 blocks; the service's kills are in test_kills.py."""
    seconds = []
    jobs: list[tuple[str, int, int, dict[str, Any]]] = [
        ("digits", 2, 50, {"epochs": 240}),
        ("digits", 3, 50, {"epochs": 240}),
        ("digits", 4, 50, {"epochs": 240, "options": {"layers": 4}}),
        ("fashion-mnist", 2, 25, {"epochs": 6, "batch_size": 256}),
        ("fashion-mnist", 3, 25, {"epochs": 6, "batch_size": 256}),
    ]
    for number, (task, blocks, kills, settings) in enumerate(jobs):
        folder, data = tmp_path / f"{number}", {"data_dir": str(real_data)}
        found = under_faults(
            folder, task, kills, 0, seed=number, blocks=blocks, **settings,
            **({} if task == "digits" else data),
        )  # fmt: skip
        all_recovered(found)
        seconds += [s.recovered_s for s in found.faults if s.recovered_s is not None]
    assert len(seconds) == 200
    print(f"recovery: median {median(seconds):.1f} s, longest {max(seconds):.1f} s")  # noqa: T201


def test_without_snapshots_a_run_goes_back_to_its_checkpoint(a_ray: None, tmp_path: Path) -> None:
    injector = FaultInjector([Fault("kill", 1, 30, 0.0)], 1.0, Grid(2))
    run = train(
        "digits", run_dir=tmp_path / "run", viewer=injector, epochs=4, log_every=1,
        options={"width": 64}, faults={"snapshot_steps": 0}, checkpoint={"every_steps": 25},
    )  # fmt: skip
    assert run.summary["faults"]["recovered"] == 1
    assert run.summary["snapshots"]["taken"] == 0
    steps = [line["step"] for line in run.curves if line["kind"] == "train"]
    assert steps == list(range(1, 4 * 22 + 1))
    assert injector.faults[0].repeated > 0
