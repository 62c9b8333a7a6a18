"""Two runs and one folder: each makes its own, or locks it before it looks at it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from errorcast.v1.job_pb2 import JobSpec
from support.in_process import train_here

from coordinator.experiments import method_comparison
from coordinator.experiments.method_comparison import compare_methods
from coordinator.job.resolve import resolve
from coordinator.runs import folders
from coordinator.runs.folders import folder_of_runs, locked_folder, new_folder
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from dfa_core import JobError

pytestmark = pytest.mark.unit

SMALL: dict[str, Any] = {"method": "shallow", "epochs": 1, "blocks": 1, "options": {"width": 16}}


def job(**settings: Any) -> JobSpec:
    return resolve("digits", {**SMALL, **settings}).spec


def begin_a_run(folder: RunFolder) -> None:
    """Write what the first checkpoint of a run leaves."""
    checkpoint = folder.path / "checkpoints" / "step-000000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")


def test_runs_that_start_in_the_same_second_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: new_folder("digits"), range(64)))
    assert len(set(made)) == 64
    assert all(path.is_dir() for path in made)
    assert tmp_path / "runs" / "digits-20260101-000000" in made
    assert tmp_path / "runs" / "digits-20260101-000000-64" in made


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    with pytest.raises(JobError, match=r"run folder .*/runs/digits-.* cannot be made"):
        new_folder("digits")
    with pytest.raises(JobError, match="run folder .*/runs cannot be written"):
        RunFolder(tmp_path / "runs").opened(job(), "new").__enter__()


def test_nothing_is_written_before_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_LOCK_S", 0.0)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.opened(job(seed=1), "new"):
        first.begin_run(Origin({}), {})
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with (
            pytest.raises(JobError, match="run: another run is using this folder"),
            second.opened(job(seed=2), "new"),
        ):
            pytest.fail("two runs are in one folder")
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert first.spec().seed == 1


@pytest.mark.parametrize("begin", ["new", "either"])
def test_what_is_there_is_looked_at_under_the_lock(tmp_path: Path, begin: Any) -> None:
    """The second run waits while the first one begins and ends; it must not take that one over."""
    folder, refused = RunFolder(tmp_path / "run"), list[JobError]()

    def wait() -> None:
        try:
            with RunFolder(folder.path).opened(job(seed=2), begin):
                pytest.fail("it took over another run")
        except JobError as error:
            refused.append(error)

    second = threading.Thread(target=wait)
    with folder.opened(job(seed=1), "new"):
        second.start()
        time.sleep(0.3)  # it looks, if it does so too early
        folder.begin_run(Origin({}), {})
        begin_a_run(folder)
    second.join()
    expected = "holds a run already" if begin == "new" else "its seed is 1, not 2"
    assert [expected in str(error) for error in refused] == [True], refused
    assert folder.spec().seed == 1


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_shared_folder_of_checkpoints_is_locked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(folders, "_LOCK_S", 0.0)
    spec = job(checkpoint={"path": form.format(tmp_path / "store")})
    with (
        RunFolder(tmp_path / "a").opened(spec, "new"),
        pytest.raises(JobError, match="store: another run is using this folder"),
        RunFolder(tmp_path / "b").opened(spec, "new"),
    ):
        pytest.fail("two runs write to one store")
    assert not RunFolder(tmp_path / "b").job.exists()


def test_a_result_of_another_run_is_not_left(tmp_path: Path) -> None:
    """Its checkpoints are gone, so the folder is free."""
    folder = RunFolder(tmp_path / "run")
    with folder.opened(job(seed=1), "new"):
        folder.begin_run(Origin({}), {})
        folder.write_result({"finished": True})
    with folder.opened(job(seed=2), "new"):
        folder.begin_run(Origin({}), {})
        assert folder.summary() is None
    assert folder.spec().seed == 2


def test_an_experiment_that_trains_nothing_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError, match="so it is"), folder_of_runs(None, "compare") as made:
        assert made.parent == tmp_path / "runs"
        raise JobError("so it is")
    assert list((tmp_path / "runs").iterdir()) == []
    with folder_of_runs(tmp_path / "given", "compare") as given, pytest.MonkeyPatch.context() as m:
        m.setattr(folders, "_LOCK_S", 0.0)
        with pytest.raises(JobError, match="another run"), locked_folder(given):
            pytest.fail("two comparisons are in one folder")
    assert given.is_dir()


def compare(folder: Path, **settings: Any) -> None:
    settings = {**SMALL, **settings}
    compare_methods("digits", ["shallow"], 1, settings, folder, False, lambda _: None)


def test_a_comparison_takes_over_only_results_of_the_same_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[dict[str, Any]] = []

    def train(task: str, run_dir: Path, viewer: Any, **settings: Any) -> Any:
        trained.append(settings)
        raise InterruptedError

    train_here("digits", tmp_path / "shallow-0", **SMALL)
    monkeypatch.setattr(method_comparison, "train", train)
    monkeypatch.setattr(method_comparison, "ray_for", lambda *_: nullcontext())
    compare(tmp_path)  # the same job: taken over
    with pytest.raises(JobError, match="holds another job: its options is {'width': 16}"):
        compare(tmp_path, options={"width": 32})
    train_here("digits", tmp_path / "long" / "shallow-0", **{**SMALL, "epochs": 2})
    with pytest.raises(JobError, match="holds a run of 2 epochs, not 1"):
        compare(tmp_path / "long")
    assert not trained
    for other in ({"epochs": 2}, {"data_dir": str(tmp_path)}, {"stopping": {"metric": "loss"}}):
        with pytest.raises(InterruptedError):
            compare(tmp_path, **other)
        assert trained.pop()["resume"]


OF_A_FILE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from dfa_tasks import Splits, Task

def data():
    x = torch.load("rows.pt")
    return Splits(TensorDataset(x, (x[:, 0] > 0).long()), TensorDataset(x, (x[:, 0] > 0).long()))

def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return Task(model=model, loss=nn.functional.cross_entropy, data=data)
"""


def test_a_comparison_takes_over_only_results_on_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(method_comparison, "ray_for", lambda *_: nullcontext())
    (tmp_path / "mine.py").write_text(OF_A_FILE)
    torch.save(torch.randn(64, 4), "rows.pt")
    settings = {"method": "shallow", "epochs": 1, "blocks": 1}
    train_here("mine.py:make", tmp_path / "out" / "shallow-0", **settings)
    both = "mine.py:make", ["shallow"], 1, settings, tmp_path / "out", False, lambda _: None
    (row,) = compare_methods(*both)
    assert row.steps == [1]
    torch.save(torch.randn(64, 4), "rows.pt")
    kept = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(JobError, match="the training data is not the data that this run began"):
        compare_methods(*both)
    more = {**settings, "epochs": 2}
    with pytest.raises(JobError, match="the training data is not the data that this run began"):
        train_here("mine.py:make", tmp_path / "out" / "shallow-0", resume=True, **more)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == kept
