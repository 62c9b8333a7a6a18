"""A run goes on with the data that it began with, or says why it does not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import run_errorcast
from support.in_process import train_here
from support.runs import Listener
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from coordinator.inspection.saved_run import open_run
from coordinator.job.resolve import resolve
from coordinator.runs.checkpoint import newest_checkpoint
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from coordinator.runs.sketch import alike, sketch
from coordinator.training.events import Warned
from dfa_core import JobError
from dfa_tasks import Splits, Task

SETTINGS: dict[str, Any] = {"method": "bp", "batch_size": 16, "microbatches": 1}

FILE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from dfa_tasks import Splits, Task

def part(seed, samples):
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] > 0).long())

def make_task():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return Task(net, nn.functional.cross_entropy, lambda: Splits(part(0, 64), part(1, 32)))
"""


def part(seed: int, samples: int, noise: float = 0.0) -> TensorDataset:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(seed)) * (1 + noise)
    return TensorDataset(x, (x[:, 0] > 0).long())


def task(train: Any = None, test: Any = None, validation: Any = None) -> Task:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    splits = Splits(part(0, 64) if train is None else train, test or part(1, 32), validation)
    return Task(net, nn.functional.cross_entropy, splits)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    train_here(task(), tmp_path / "run", epochs=1, **SETTINGS)
    return tmp_path / "run"


def test_the_origin_is_in_the_folder_and_in_checkpoints(run: Path) -> None:
    found, _ = newest_checkpoint(RunFolder(run).checkpoints)
    assert found is not None
    assert found.origin is not None
    written = json.loads((run / "origin.json").read_text())
    assert Origin.from_json(written) == found.origin
    assert {n: p.size for n, p in found.origin.parts.items()} == {"training": 64, "test": 32}


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"train": part(2, 64)}, "the training data is not the data .*: its samples are other"),
        ({"train": part(0, 80)}, "the training data .*: it has 80 samples or steps, not 64"),
        ({"test": part(2, 32)}, "the test data .*: its samples are other"),
        ({"test": TensorDataset(part(1, 32).tensors[0], torch.arange(32) % 2)}, "the test data"),
        ({"validation": part(3, 32)}, "the validation data .*: it has 32 .*, not 0"),
    ],
)
def test_a_run_is_not_resumed_on_other_data(run: Path, other: Any, line: str) -> None:
    before = sorted(run.rglob("*"))
    with pytest.raises(JobError, match=rf"run: {line}.*; put the data back, or name another --run"):
        train_here(task(**other), run, resume=True, epochs=2, **SETTINGS)
    assert sorted(run.rglob("*")) == before


def test_it_is_resumed_on_the_same_data_as_another_machine_computes_it(run: Path) -> None:
    resumed = train_here(
        task(train=part(0, 64, noise=1e-6)), run, resume=True, epochs=2, **SETTINGS
    )
    assert resumed.summary["steps"] == 8


def test_a_folder_whose_run_never_began_takes_any_data(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    train_here(task(), tmp_path / "another", epochs=1, **SETTINGS)
    (folder / "origin.json").write_text((tmp_path / "another" / "origin.json").read_text())
    train_here(task(train=part(5, 48)), folder, epochs=1, **SETTINGS)


def test_a_run_of_a_version_without_origins_is_resumed(run: Path) -> None:
    folder = RunFolder(run)
    checkpoint = folder.checkpoint()
    assert checkpoint is not None
    assert Origin.from_json(None) is None
    manifest = Path(str(checkpoint)) / "manifest.json"
    body = {
        k: v for k, v in json.loads(manifest.read_text()).items() if k not in ("origin", "sha256")
    }
    from coordinator.runs.checkpoint import _seal

    manifest.write_text(json.dumps({**body, "sha256": _seal(body)}))
    train_here(task(train=part(2, 64)), run, resume=True, epochs=2, **SETTINGS)


class Unsteady(Dataset[Any]):
    """Draws from a generator that nobody seeds."""

    def __init__(self, data: TensorDataset) -> None:
        self.data, self.random = data, np.random.default_rng()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        x, target = self.data[index]
        return x + float(self.random.normal()), target


def test_samples_that_are_never_the_same_are_warned_of_and_resumed(tmp_path: Path) -> None:
    listener = Listener()
    unsteady = task(train=Unsteady(part(0, 64)))
    train_here(unsteady, tmp_path / "run", viewer=listener, epochs=1, **SETTINGS)
    (warning,) = listener.messages(Warned)
    assert "the training data gives other samples each time it is read" in warning
    train_here(unsteady, tmp_path / "run", resume=True, epochs=2, **SETTINGS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "origin_example.py"
    path.write_text(FILE)
    return path


def test_evaluate_refuses_other_test_data_and_warns_of_the_rest(file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_here(f"{file}:make_task", run, epochs=1, **SETTINGS)
    assert open_run(run).warnings == []

    file.write_text(FILE.replace("nn.Tanh()", "nn.ReLU()"))
    done = run_errorcast("evaluate", str(run), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.err.count(f"errorcast: {file} has changed since this run began") == 1

    file.write_text(FILE.replace("part(0, 64)", "part(3, 64)"))
    done = run_errorcast("evaluate", str(run), cwd=tmp_path)
    assert done.code == 0, done.err
    assert "the training data is not the data that this run began with" in done.err
    assert run_errorcast("evaluate", str(run), "--alignment", cwd=tmp_path).code == 2

    file.write_text(FILE.replace("part(1, 32)", "part(3, 32)"))
    done = run_errorcast("evaluate", str(run), cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("errorcast: the test data is not the data that this run began with")
    assert done.err.count("\n") == 1


def test_a_changed_file_is_a_warning_on_resume(file: Path, tmp_path: Path) -> None:
    listener, name = Listener(), f"{file}:make_task"
    train_here(name, tmp_path / "run", epochs=1, **SETTINGS)
    file.write_text(f"{FILE}\n# a comment\n")
    train_here(name, tmp_path / "run", resume=True, viewer=listener, epochs=2, **SETTINGS)
    assert listener.messages(Warned) == [
        f"{file} has changed since this run began; the new one is used"
    ]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 5), torch.arange(6), torch.tensor(2), torch.tensor(True),
        torch.randn(3).bfloat16(), torch.empty(0, 3), torch.tensor([float("nan"), 1.0]),
        torch.randn(2, dtype=torch.complex64), torch.randn(2_000_000),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} {tensor.dtype}",
)  # fmt: skip
def test_any_tensor_has_a_sketch_that_json_keeps(tensor: torch.Tensor) -> None:
    found = sketch(tensor)
    assert alike(found, json.loads(json.dumps(found, allow_nan=False)))
    assert alike(found, sketch(tensor.clone()))
    if tensor.numel() and not torch.isnan(tensor).any():
        assert not alike(
            found, sketch(~tensor if tensor.dtype is torch.bool else tensor * 1.01 + 1)
        )
    assert not alike(found, sketch(tensor.reshape(-1, 1, 1)))


def test_the_order_of_numbers_counts() -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(0))
    assert not alike(sketch(x), sketch(x.flip(0)))
    assert alike(sketch(x), sketch(x * (1 + 1e-6)))


def test_a_part_that_cannot_be_read_is_named() -> None:
    class Broken(Unsteady):
        def __getitem__(self, index: int) -> Any:
            raise OSError("no such image")

    broken = replace(task(), data=Splits(part(0, 64), Broken(part(1, 32))))
    with pytest.raises(JobError, match=r"the test data: sample 0 of Broken failed: OSError: no"):
        Origin.of(resolve(broken, SETTINGS), broken.splits())
    no_pairs = replace(task(), data=Splits(part(0, 64), list(range(8))))  # type: ignore[arg-type]
    with pytest.raises(JobError, match=r"the test data: sample 0 of list is a int; it must be"):
        Origin.of(resolve(no_pairs, SETTINGS), no_pairs.splits())
