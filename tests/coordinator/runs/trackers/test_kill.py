"""A real run whose coordinator is killed: W&B and MLflow get every point once."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from support.in_process import train_here
from support.runs import Listener, weights
from support.tasks import noisy_task
from support.tracked import (
    logged_points,
    mlflow_points,
    mlflow_run,
    same_but_speed,
    wandb_points,
    wandb_records,
)

from coordinator import train
from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.runs.trackers.wandb_files import rows
from coordinator.training.events import FaultSeen
from dfa_tasks import Callback, StopTraining

JOB: dict[str, Any] = {
    "blocks": 1,
    "batch_size": 4,
    "microbatches": 1,
    "log_every": 1,
    "checkpoint": {"every_steps": 50},
    "faults": {"snapshot_steps": 0},
}


class Killer(Callback):
    """Kills its own process at step 233, once; then stops the run well at a later epoch.

    Before, it lets the trackers begin: MLflow has its run, and W&B some of 200 rows in its file.
    """

    def __init__(self, mark: Path, run_dir: Path) -> None:
        self.mark, self.run_dir = mark, run_dir

    def on_step(self, step: int, loss: float) -> None:
        if self.mark.exists():
            return
        deadline = monotonic() + 60
        while step == 200 and not self._begun():
            assert monotonic() < deadline
            sleep(0.05)  # files do not notify of their growth
        if step == 233:
            self.mark.write_text(os.environ["WANDB_NOTES"])
            os.kill(os.getpid(), signal.SIGKILL)

    def _begun(self) -> bool:
        files = [*self.run_dir.glob("wandb/offline-run-*/*.wandb")]
        mlflow = TrackedIds(self.run_dir / "trackers.json", "mlflow").read()
        return "id" in mlflow and any(file.stat().st_size > 32768 for file in files)

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        if step == 320:
            raise StopTraining("far enough")


@pytest.mark.timeout(300)
def test_every_point_once_after_a_kill_and_a_resume(
    a_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B writes in blocks of 32 KiB, so the kill costs it rows; they are there in the end.

    Ray is running already when the variables are set.
    """
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-that-is-in-no-file-0123456789ab")
    monkeypatch.setenv("WANDB_NOTES", "from the one who starts the run")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    listener, folder = Listener(), tmp_path / "run"
    given = {**JOB, "trackers": ["wandb", "mlflow"], "viewer": listener, "run_dir": folder}
    killer = Killer(tmp_path / "mark", folder)
    run = train(noisy_task(), epochs=40, callbacks=[killer], **given)
    assert (tmp_path / "mark").read_text() == "from the one who starts the run"
    assert len([event for event in listener.events if isinstance(event, FaultSeen)]) == 1
    assert run.summary["stopped_by"] == "Killer: far enough"
    assert (run.summary["steps"], run.summary["finished"]) == (320, True)
    killed, _ = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert 0 < len(list(rows(killed))) < 233  # what is lost there is in the second file

    train_here(noisy_task(), epochs=18, resume=True, **given)
    logged, held = logged_points(folder), wandb_points(folder)
    # metrics.jsonl has the last test alone
    logged.update({point: 1 for point in held if point[0].startswith("test/") and point[1] == 320})
    assert {step for _, step, _ in logged} == {*range(1, 361)}
    assert set(held.values()) == {1}
    assert same_but_speed(held) == same_but_speed(logged)
    assert same_but_speed(mlflow_points(folder)) == same_but_speed(logged)
    assert len({file.name.rpartition("-")[2] for file in (folder / "wandb").glob("off*")}) == 1
    assert [record["exit_code"] for record in wandb_records(folder, "exit")] == [0, 0]

    client, tracked = mlflow_run(folder)
    assert (tracked.info.status, tracked.info.run_name) == ("FINISHED", "run")
    assert tracked.data.params["batch_size"] == "4"
    kept = {file.path for file in client.list_artifacts(tracked.info.run_id)}
    assert kept == {"job.yaml", "model.safetensors", "result.json"}
    there = client.download_artifacts(tracked.info.run_id, "model.safetensors", str(tmp_path))
    assert weights(Path(there)) == weights(folder)
    secret = os.environ["WANDB_API_KEY"].encode()
    assert [
        file for file in tmp_path.rglob("*") if file.is_file() and secret in file.read_bytes()
    ] == []
