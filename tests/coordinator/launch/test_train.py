"""`train()` from Python, as in a notebook."""

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.in_process import train_here
from support.relative_task import project
from support.runs import Listener, weights
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from coordinator import train
from coordinator.launch.train import Run
from coordinator.runs.checkpoint import _seal
from coordinator.runs.folders import locked_folder
from coordinator.runs.run_folder import RunFolder
from coordinator.training.events import Progress, Warned
from dfa_core import JobError
from dfa_tasks import Splits, Task


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """A map-style dataset that is no TensorDataset."""

    def __init__(self, samples: int) -> None:
        self.x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(samples))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index], int(self.x[index].sum() > 0)


def assert_same(run: Run, other: Run) -> None:
    """Compare the logged figures and the weights, bit for bit."""
    ours, theirs = (
        [{k: v for k, v in line.items() if k != "samples_per_s"} for line in one.curves]
        for one in (run, other)
    )
    assert ours == theirs
    assert weights(run.folder) == weights(other.folder)


def own_task() -> Task:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    return Task(
        model=net,
        loss=nn.functional.cross_entropy,
        data=Splits(Pairs(320), Pairs(100)),
        name="sums",
    )


def test_a_task_object_with_any_dataset(a_ray: None, tmp_path: Path) -> None:
    settings = {"blocks": 2, "microbatches": 2, "batch_size": 32, "epochs": 12, "log_every": 1}
    given: dict[str, Any] = {**settings, "optimizer": {"lr": 0.01}}
    run = train(own_task(), run_dir=tmp_path / "r", **given, resources={"data_workers": 1})
    assert run.summary["data"]["waited_s"] >= 0
    assert_same(run, train_here(own_task(), tmp_path / "here", **given))
    assert run.metrics["accuracy"] > 0.9
    assert run.summary["finished"]
    evaluations = [line for line in run.curves if line["kind"] == "evaluation"]
    assert [line["epoch"] for line in evaluations] == list(range(1, 13))
    assert evaluations[-1]["accuracy"] == run.metrics["accuracy"]
    x, target = Pairs(100).x, torch.tensor([Pairs(100)[i][1] for i in range(100)])
    found = (run.model(x).argmax(1) == target).float().mean()
    assert float(found) == pytest.approx(run.metrics["accuracy"])


def test_stopped_at_any_epoch_and_extended_it_is_one_run(a_ray: None, tmp_path: Path) -> None:
    settings = {"log_every": 1, "options": {"width": 32}, "run_dir": tmp_path / "run"}
    train("digits", epochs=1, blocks=1, **settings)
    run = train("digits", epochs=2, resume=True, blocks=2, **settings)
    assert_same(run, train_here("digits", epochs=2, **{**settings, "run_dir": tmp_path / "once"}))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_skipped(a_ray: None, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"options": {"width": 32}, "run_dir": tmp_path / "run", "blocks": 1}
    train_here("digits", epochs=1, **settings)
    checkpoints = tmp_path / "run" / "checkpoints"
    flip(next(checkpoints.glob("step-*22/layer-0001.safetensors")))
    listener = Listener()
    run = train("digits", epochs=2, resume=True, viewer=listener, **settings)
    said = listener.messages(Warned)
    assert len(said) == 1
    assert "step-000000022/layer-0001.safetensors: is not what was written" in said[0]
    whole = train_here("digits", epochs=2, **{**settings, "run_dir": tmp_path / "whole"})
    assert weights(run.folder) == weights(whole.folder)
    for file in checkpoints.glob("step-*/head.safetensors"):
        flip(file)
    with pytest.raises(JobError, match="and no checkpoint before it is intact"):
        train("digits", epochs=3, resume=True, **settings)


def test_a_run_of_an_older_version_continues(a_ray: None, tmp_path: Path) -> None:
    """Its job.yaml and its checkpoints lack the settings that came since."""
    job: dict[str, Any] = {"blocks": 1, "batch_size": 32, "run_dir": tmp_path / "r"}
    train_here(own_task(), epochs=1, **job)
    recorded = yaml.safe_load((tmp_path / "r" / "job.yaml").read_text())
    del recorded["precision"], recorded["optimizer"]["patience"]
    (tmp_path / "r" / "job.yaml").write_text(yaml.safe_dump(recorded))
    for path in (tmp_path / "r" / "checkpoints").glob("*/manifest.json"):
        body = json.loads(path.read_text())
        del body["sha256"], body["job"]["precision"], body["job"]["optimizer"]["patience"]
        path.write_text(json.dumps({**body, "sha256": _seal(body)}))
    assert train(own_task(), epochs=2, resume=True, **job).summary["finished"]
    with pytest.raises(JobError, match="holds another job: its precision is fp32, not bf16"):
        train(own_task(), epochs=3, resume=True, precision="bf16", **job)


def test_a_folder_has_one_run(a_ray: None, tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path / "run"),
        pytest.raises(JobError, match="another run is using"),
    ):
        train("digits", epochs=1, run_dir=tmp_path / "run")
    train(
        "digits", method="bp", blocks=1, epochs=1, options={"width": 32}, run_dir=tmp_path / "run"
    )


def test_seeds_that_are_started_together_are_runs_of_their_own(
    a_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {
        "method": "shallow",
        "blocks": 1,
        "epochs": 1,
        "options": {"width": 16},
    }
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda seed: train("digits", seed=seed, **settings), range(3)))
    assert len({run.folder for run in runs}) == 3
    for seed, run in enumerate(runs):
        assert run.summary["finished"]
        assert RunFolder(run.folder).spec().seed == seed
        assert_same(run, train_here("digits", tmp_path / f"{seed}", seed=seed, **settings))


def test_relative_paths_of_a_task_start_where_the_run_was_started(
    a_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the coordinator and in the workers, and when the run goes on from another folder."""
    home, elsewhere = (project(tmp_path / name, name) for name in ("home", "elsewhere"))
    settings: dict[str, Any] = {"blocks": 1, "log_every": 1}  # else a run's last step is logged
    monkeypatch.chdir(home)
    first = train("mytask.py:make", epochs=1, run_dir=tmp_path / "run", **settings)
    monkeypatch.chdir(elsewhere)
    task = first.job.spec.task
    run = train(task, epochs=2, run_dir=tmp_path / "run", resume=True, **settings)
    monkeypatch.chdir(home)
    assert_same(run, train_here("mytask.py:make", tmp_path / "here", epochs=2, **settings))


def test_more_workers_than_the_cluster_has(a_ray: None, tmp_path: Path) -> None:
    message = r"needs 2 worker\(s\) x 100 CPU, the cluster has 24 CPU"
    with pytest.raises(JobError, match=message):
        train("digits", resources={"cpus": 100}, run_dir=tmp_path / "run")


@pytest.mark.parametrize("method", ["dfa", "bp"])
def test_a_gpu_for_the_coordinator_where_there_is_none(
    a_ray: None, tmp_path: Path, method: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    message = r"resources.coordinator_gpus: 1 are asked for, and the coordinator's node has 0 GPU"
    with pytest.raises(JobError, match=message):
        resources = {"coordinator_gpus": 1}
        train("digits", method=method, resources=resources, run_dir=tmp_path / "run")


def test_nccl_on_cpus_is_refused(a_ray: None, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nccl needs a GPU for each rank, and the coordinator has"):
        train("digits", resources={"transport": "nccl"}, run_dir=tmp_path / "run")


def test_what_cannot_be_sent_is_named(a_ray: None, tmp_path: Path) -> None:
    import threading

    lock = threading.Lock()
    task = Task(
        model=own_task().model,
        loss=lambda out, y: (lock, nn.functional.cross_entropy(out, y))[1],
        data=Splits(TensorDataset(torch.zeros(64, 6)), TensorDataset(torch.zeros(64, 6))),
    )
    with pytest.raises(JobError, match="cannot be sent to the workers"):
        train(task, run_dir=tmp_path / "run")


def test_checkpoints_in_another_place_are_enough_to_go_on(a_ray: None, tmp_path: Path) -> None:
    """By fsspec, in a folder that holds nothing else; those of another job are refused."""
    settings: dict[str, Any] = {"options": {"width": 32}, "log_every": 1, "blocks": 1}
    elsewhere = {"path": f"file://{tmp_path}/store"}
    train_here("digits", epochs=1, run_dir=tmp_path / "a", checkpoint=elsewhere, **settings)
    assert not (tmp_path / "a" / "checkpoints").exists()
    with pytest.raises(JobError, match="store: holds a run already"):
        train("digits", epochs=2, run_dir=tmp_path / "b", checkpoint=elsewhere, **settings)
    there: dict[str, Any] = {"checkpoint": elsewhere, "resume": True, **settings}
    run = train("digits", epochs=2, run_dir=tmp_path / "b", **there)
    whole = train_here("digits", epochs=2, run_dir=tmp_path / "whole", **settings)
    assert weights(run.folder) == weights(whole.folder)
    with pytest.raises(JobError, match="holds another job: its seed is 0, not 1"):
        train("digits", epochs=3, seed=1, run_dir=tmp_path / "c", **there)


def small_disk(folder: Path, megabytes: int) -> None:
    """Mount a real file system of this size, or skip the test."""
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs")
    if os.geteuid() or subprocess.run(["mount", *options, folder], check=False).returncode:
        pytest.skip("needs root to mount a small file system")


def test_a_full_disk_costs_checkpoints_and_not_the_run(a_ray: None, tmp_path: Path) -> None:
    """It fills when the run has come to a step, and is freed later; every line is logged."""
    disk = tmp_path / "disk"
    small_disk(disk, 8)

    class Filler(Listener):
        def progress(self, progress: Progress) -> None:
            step, filler = progress.step, disk / "filler"
            if 40 < step < 200 and not filler.exists():
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
            elif step > 300:
                filler.unlink(missing_ok=True)

    listener = Filler()
    try:
        run = train(
            "digits", run_dir=disk / "run", viewer=listener, epochs=20, log_every=1,
            options={"width": 128}, checkpoint={"every_steps": 20}, blocks=1,
        )  # fmt: skip
        said = listener.messages(Warned)
        assert any("was not written" in m and "No space left on device" in m for m in said)
        steps = [line["step"] for line in run.curves if line["kind"] == "train"]
        assert steps == list(range(1, 20 * 22 + 1))
        assert run.summary["finished"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
