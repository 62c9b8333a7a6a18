"""What a run writes down: each point once, also after a kill, and as valid JSON."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import Nobody, train_here
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.runs.recorder import Recorder
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Event, Warned
from dfa_tasks import Splits, Task


def points(folder: RunFolder) -> list[tuple[str, int, float]]:
    """Return (name, step, time) of all points in the event files, as they are."""
    return [
        (value.tag, event.step, event.wall_time)
        for file in sorted(folder.tensorboard.glob("events.*"))
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]


def strict(text: str) -> Any:
    """Read JSON as other readers do, which know no NaN."""

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refused)


@pytest.mark.parametrize("back_to", [0, 30, 90])
def test_one_point_a_step_after_a_kill(tmp_path: Path, back_to: int) -> None:
    folder = RunFolder(tmp_path)
    killed = Recorder(folder)
    killed.begin(0)
    for step in range(10, 100, 10):
        killed.write("train", step, {"loss": 1 / step, "lr": 0.1})
    killed.write("evaluation", 90, {"epoch": 1, "loss": 0.5})
    killed.close()  # its thread ends; what it had written stays
    times = {(tag, step): at for tag, step, at in points(folder)}
    again = Recorder(folder)
    again.begin(back_to)
    for step in range(back_to + 10, 210, 10):
        again.write("train", step, {"loss": 1 / step, "lr": 0.1})
    again.write("evaluation", 90, {"epoch": 1, "loss": 0.5})
    again.close()
    found = points(folder)
    assert set(Counter((tag, step) for tag, step, _ in found).values()) == {1}
    assert [step for tag, step, _ in found if tag == "train/loss"] == [*range(10, 210, 10)]
    assert all(at == times[tag, step] for tag, step, at in found if step <= back_to)
    lines = [strict(line) for line in folder.metrics.read_text().splitlines()]
    assert set(Counter((line["kind"], line["step"]) for line in lines).values()) == {1}


def test_points_that_the_killed_process_had_not_written_are_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    killed = Recorder(folder)
    killed.begin(0)
    killed.write("train", 10, {"loss": 0.5})
    killed.close()  # its thread ends
    for file in folder.tensorboard.glob("events.*"):
        file.write_bytes(b"")
    again = Recorder(folder)
    again.begin(10)
    again.close()
    assert [(tag, step) for tag, step, _ in points(folder)] == [("train/loss", 10)]


class Listening(Nobody):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def event(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)


def test_a_metric_that_is_nan_ends_the_run_says_so_and_is_null_in_json(tmp_path: Path) -> None:

    data = TensorDataset(torch.randn(64, 4), torch.zeros(64, dtype=torch.long))
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    task = Task(
        model,
        nn.functional.cross_entropy,
        Splits(data, data),
        global_metrics={"auc": lambda output, target: float("nan")},
        defaults={"batch_size": 16, "microbatches": 1, "blocks": 1, "epochs": 6},
    )
    listening = Listening()
    stopping = {"metric": "auc", "patience": 2}
    run = train_here(task, tmp_path, viewer=listening, stopping=stopping)
    assert run.summary["steps"] == 2 * 4
    assert [w for w in listening.warnings if "auc is NaN after epoch 1" in w] == listening.warnings
    assert strict((tmp_path / "result.json").read_text())["metrics"]["auc"] is None
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        strict(line)
    assert str(RunFolder(tmp_path).curve()[-1]["auc"]) == "nan"
