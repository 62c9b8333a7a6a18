"""Trackers of other programs in one process: what they hold, and what they never do to a run."""

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from support.in_process import train_here
from support.runs import Listener
from support.tasks import noisy_task
from support.tracked import (
    logged_points,
    mlflow_points,
    mlflow_run,
    same_but_speed,
    wandb_points,
    wandb_records,
)
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers import background
from coordinator.runs.trackers.choice import tracker_environment
from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.training.events import RolledBack, Warned
from dfa_core import JobError, TrainingFailed
from dfa_tasks import Callback, Splits, Task

JOB: dict[str, Any] = {
    "blocks": 1,
    "batch_size": 16,
    "microbatches": 1,
    "log_every": 1,
    "epochs": 4,
    "trackers": ["wandb", "mlflow"],
}
pytestmark = pytest.mark.blocks

BEGIN = "from support.in_process import train_here; from support.tasks import noisy_task;"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    yield
    import wandb  # takes a second, in each process

    wandb.teardown()  # it keeps what it has read of the environment


def test_a_folder_as_mlflows_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a metric whose name MLflow does not take; what a resume changes is a tag."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    job = {**JOB, "trackers": ["mlflow"]}
    with pytest.raises(JobError, match="which MLflow refuses unless MLFLOW_ALLOW_FILE_STORE=true"):
        train_here(noisy_task(), tmp_path / "run", **job)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "noise")
    odd = {"hits@10": lambda output, target: float(target.sum())}
    task = noisy_task()
    object.__setattr__(task, "global_metrics", odd)
    for epochs in (2, 3):
        train_here(task, tmp_path / "run", **{**job, "epochs": epochs}, resume=epochs == 3)
    expected = Counter(
        {(name.replace("@", "_"), *rest): 1 for name, *rest in logged_points(tmp_path / "run")}
    )
    held = mlflow_points(tmp_path / "run")
    tests = {point for point in held if point[0].startswith("test/")}
    assert {step for _, step, _ in tests} == {10, 15}
    assert held - Counter(tests) == expected - Counter(tests)
    client, run = mlflow_run(tmp_path / "run")
    assert client.get_experiment(run.info.experiment_id).name == "noise"
    assert (run.data.params["epochs"], run.data.tags["epochs"]) == ("2", "3")


class Failing(Callback):
    """Ends a run in the middle by an error."""

    def on_step(self, step: int, loss: float) -> None:
        if step == 7:
            raise RuntimeError("no more")


def test_how_a_run_ends_is_its_state_there(tmp_path: Path) -> None:
    failing = replace(noisy_task(), callbacks=(Failing(),))
    with pytest.raises(TrainingFailed, match="Failing: on_step of step 7 raised RuntimeError"):
        train_here(failing, tmp_path / "run", **JOB)
    assert mlflow_run(tmp_path / "run")[1].info.status == "FAILED"
    train_here(noisy_task(), tmp_path / "run", resume=True, **JOB)
    assert mlflow_run(tmp_path / "run")[1].info.status == "FINISHED"
    codes = [record["exit_code"] for record in wandb_records(tmp_path / "run", "exit")]
    assert codes == [1, 0]
    held = same_but_speed(wandb_points(tmp_path / "run"))
    assert held == same_but_speed(logged_points(tmp_path / "run"))
    assert set(held.values()) == {1}


def spiking_task() -> Task:
    """Its loss grows until it is infinite, unless the learning rate is low."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    return Task(net, nn.functional.mse_loss, Splits(data, data), metrics={}, name="spiking")


class Waiting(Callback):
    """Goes on with step 16 when MLflow has what the checkpoint of step 10 has settled."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.waited = run_dir, False

    def on_step(self, step: int, loss: float) -> None:
        if step < 16 or self.waited:
            return
        deadline = monotonic() + 30
        ids = TrackedIds(self.run_dir / "trackers.json", "mlflow")
        while not ("id" in ids.read() and 10 in {at for _, at, _ in mlflow_points(self.run_dir)}):
            assert monotonic() < deadline
            sleep(0.1)  # a database does not notify of its growth
        self.waited = True


def test_steps_that_are_rolled_back_never_reach_a_tracker(tmp_path: Path) -> None:
    listener = Listener()
    job = JOB | {
        "method": "bp",
        "epochs": 30,
        "optimizer": {"name": "sgd", "lr": 4.0, "warmup_steps": 100},
        "faults": {"non_finite": "roll_back", "rate_factor": 0.01},
        "checkpoint": {"every_steps": 10},
    }
    task = replace(spiking_task(), callbacks=[Waiting(tmp_path / "run")])
    run = train_here(task, tmp_path / "run", viewer=listener, **job)
    (rolled_back,) = listener.messages(RolledBack)
    assert "rolled back to step 10" in rolled_back
    logged = logged_points(run.folder)
    assert set(mlflow_points(run.folder).values()) == {1}
    assert (wandb_points(run.folder), mlflow_points(run.folder)) == (logged, logged)


def test_servers_that_are_down_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refuses connections, one takes them and never answers."""
    monkeypatch.setattr(background, "_END_IN_TROUBLE_S", 4.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
        listener = Listener()
        run = train_here(noisy_task(), tmp_path / "run", viewer=listener, **JOB)
    assert run.summary["finished"]
    said = sorted(listener.messages(Warned))
    assert [text.partition(":")[0] for text in said] == ["mlflow", "wandb"]
    assert "is recorded offline in" in said[1]
    assert wandb_points(run.folder) == logged_points(run.folder)  # offline, so nothing is lost
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train_here(noisy_task(), tmp_path / "run", resume=True, **JOB)
    logged = logged_points(run.folder)  # the servers answer: what they lack comes
    assert (wandb_points(run.folder), mlflow_points(run.folder)) == (logged, logged)


def test_a_run_that_is_gone_there_is_begun_again(tmp_path: Path) -> None:
    job = JOB | {"trackers": ["mlflow"]}
    train_here(noisy_task(), tmp_path / "run", **job)
    ids = TrackedIds(tmp_path / "run" / "trackers.json", "mlflow")
    ids.write(**{**ids.read(), "id": "0" * 32, "key": "another"})
    listener = Listener()
    train_here(noisy_task(), tmp_path / "run", resume=True, viewer=listener, **job)
    assert listener.messages(Warned) == [
        f"mlflow: there is no run {'0' * 32} any more; it is begun again"
    ]
    assert mlflow_points(tmp_path / "run") == logged_points(tmp_path / "run")


def test_the_environment_of_a_process_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative places start where the run is started; passwords are in no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", "there")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/my.db")
    folder = RunFolder(tmp_path / "run")
    assert tracker_environment([], folder) == {}
    found = tracker_environment(["wandb"], folder)
    assert found["WANDB_DIR"] == str(tmp_path / "there")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/sub/my.db"
    assert "PATH" not in found
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    there = tracker_environment(["mlflow"], folder)["MLFLOW_TRACKING_URI"]
    assert there == f"sqlite:///{tmp_path}/mlflow.db"


OPTIONAL = ("wandb", "mlflow", "sqlalchemy", "transformers", "pandas", "pyarrow", "tensorboardX")


def test_without_the_packages_all_else_works(tmp_path: Path) -> None:
    """A process in which nobody can import them trains, and says what to install."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
sys.modules |= dict.fromkeys({OPTIONAL!r})
from collections.abc import Iterator
from pathlib import Path
from dfa_core import JobError
{BEGIN.replace("; ", chr(10)).rstrip(";")}
import coordinator.training.actor, coordinator.cli.main
job = {JOB!r}
for tracker in ("wandb", "mlflow"):
    try:
        refused = Path({str(tmp_path / "refused")!r})
        train_here(noisy_task(), refused, **job | {{"trackers": [tracker]}})
    except JobError as error:
        print(error)
run = train_here(noisy_task(), Path({str(tmp_path / "run")!r}), **job | {{"trackers": []}})
assert run.summary["finished"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"trackers: {name} needs the package {name}, which is not installed; run: "
        f"pip install 'errorcast[{name}]'"
        for name in ("wandb", "mlflow")
    ]
    assert not (tmp_path / "refused").exists()
