"""The verbs that talk to a service, run as people and programs run them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.running import ERRORCAST, QUICK, Running, wait_for

from coordinator.client import Client


def errorcast(service: Running | str, *words: str) -> subprocess.CompletedProcess[str]:
    address = service if isinstance(service, str) else service.address
    return subprocess.run(
        [ERRORCAST, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "ERRORCAST_ADDRESS": address, "COLUMNS": "150"},
    )


def test_a_jobs_life_from_the_command_line(
    service: Running, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(json.dumps({**QUICK, "epochs": 4000}), encoding="utf-8")
    done = errorcast(service, "submit", str(tmp_path / "job.yaml"), "--set", "seed=3")
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.splitlines()[0]
    assert f"errorcast watch {job_id}" in done.stdout
    wait_for(client, job_id, "metrics")
    listed = errorcast(service, "jobs", "--format", "json").stdout.splitlines()
    first = json.loads(listed[0])
    assert (first["id"], first["spec"]["seed"]) == (job_id, "3")
    assert job_id in errorcast(service, "jobs").stdout
    shown = errorcast(service, "job", "latest").stdout
    assert "RUNNING" in shown
    assert "block 1 (layers" in shown
    output = tmp_path / "timeline.json"
    assert errorcast(service, "timeline", job_id, "-o", str(output)).returncode == 0
    assert json.loads(output.read_text(encoding="utf-8"))["traceEvents"]
    scaled = errorcast(service, "scale", job_id, "--blocks", "1", "--format", "json")
    assert json.loads(scaled.stdout)["id"] == job_id
    wait_for(client, job_id, "scaling")
    paused = errorcast(service, "pause", job_id)
    assert f"resume it with: errorcast resume {job_id}" in paused.stdout
    ended = errorcast(service, "cancel", job_id)
    assert "CANCELLED" in ended.stdout
    assert f"errorcast logs {job_id}" in ended.stdout
    watched = errorcast(service, "watch", job_id, "--format", "json")
    assert watched.returncode == 0, watched.stderr
    numbers = [json.loads(line)["number"] for line in watched.stdout.splitlines()]
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert "CANCELLED" in errorcast(service, "logs", job_id).stdout
    model = tmp_path / "model.safetensors"
    got = errorcast(service, "download", job_id, "-o", str(model), "--format", "json")
    assert json.loads(got.stdout)["bytes"] == model.stat().st_size
    gone = errorcast(service, "delete", job_id, "--format", "json")
    assert json.loads(gone.stdout) == {"id": job_id, "removed": True}


REFUSED = {
    "no job": (["job", "nothing-0001"], 2, "NO_JOB: there is no job 'nothing-0001'"),
    "a misspelt task": (["submit", "digist"], 2, "did you mean digits"),
    "a misspelt field": (["submit", "digits", "--set", "block=2"], 2, "did you mean blocks"),
    "no token file": (["jobs", "--token-file", "none"], 2, "none: cannot be read"),
    "no input": (["predict", "latest", "--input", "none.npy"], 2, "--input none.npy"),
    "no blocks": (["scale", "latest"], 2, "--blocks"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_one_line(service: Running, case: tuple[list[str], int, str]) -> None:
    words, code, text = case
    done = errorcast(service, *words)
    assert done.returncode == code
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_service_is_one_line_too() -> None:
    done = errorcast("127.0.0.1:9", "jobs")
    assert done.returncode == 1
    assert done.stderr.startswith("errorcast: no service answers at 127.0.0.1:9")
    assert len(done.stderr.splitlines()) == 1
