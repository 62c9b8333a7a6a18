"""The verbs that talk to a service: what they print for people, and for programs."""

import json
from pathlib import Path

import pytest
from support.command_line import Result, errorcast_process, run_errorcast
from support.running import QUICK, Running, wait_for

from coordinator.client import Client


def errorcast(service: Running, *words: str) -> Result:
    return run_errorcast(*words, **service.environment, COLUMNS="150")


def test_a_jobs_life_from_the_command_line(
    service: Running, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(json.dumps({**QUICK, "epochs": 4000}), encoding="utf-8")
    done = errorcast(service, "submit", str(tmp_path / "job.yaml"), "--set", "seed=3")
    assert done.code == 0, done.err
    job_id = done.out.splitlines()[0]
    assert f"errorcast watch {job_id}" in done.out
    wait_for(client, job_id, "metrics")
    listed = errorcast(service, "jobs", "--format", "json").out.splitlines()
    first = json.loads(listed[0])
    assert (first["id"], first["spec"]["seed"]) == (job_id, "3")
    assert job_id in errorcast(service, "jobs").out
    shown = errorcast(service, "job", "latest").out
    assert "RUNNING" in shown
    assert "block 1 (layers" in shown
    output = tmp_path / "timeline.json"
    assert errorcast(service, "timeline", job_id, "-o", str(output)).code == 0
    assert json.loads(output.read_text(encoding="utf-8"))["traceEvents"]
    scaled = errorcast(service, "scale", job_id, "--blocks", "1", "--format", "json")
    assert json.loads(scaled.out)["id"] == job_id
    wait_for(client, job_id, "scaling")
    paused = errorcast(service, "pause", job_id)
    assert f"resume it with: errorcast resume {job_id}" in paused.out
    ended = errorcast(service, "cancel", job_id)
    assert "CANCELLED" in ended.out
    assert f"errorcast logs {job_id}" in ended.out
    watched = errorcast(service, "watch", job_id, "--format", "json")
    assert watched.code == 0, watched.err
    numbers = [json.loads(line)["number"] for line in watched.out.splitlines()]
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert "CANCELLED" in errorcast(service, "logs", job_id).out
    model = tmp_path / "model.safetensors"
    got = errorcast(service, "download", job_id, "-o", str(model), "--format", "json")
    assert json.loads(got.out)["bytes"] == model.stat().st_size
    gone = errorcast(service, "delete", job_id, "--format", "json")
    assert json.loads(gone.out) == {"id": job_id, "removed": True}


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
    assert done.code == code
    assert text in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.service
def test_no_service_is_one_line_too(tmp_path: Path) -> None:
    done = errorcast_process("jobs", cwd=tmp_path, ERRORCAST_ADDRESS="127.0.0.1:9")
    assert done.code == 1
    assert done.err.startswith("errorcast: no service answers at 127.0.0.1:9")
    assert len(done.err.splitlines()) == 1


def test_a_proxy_for_the_internet_does_not_hide_the_service(service: Running) -> None:
    names = ("http_proxy", "https_proxy", "grpc_proxy")
    proxy = dict.fromkeys(names, "http://127.0.0.1:9")
    environment = {**service.environment, **proxy, "no_proxy": ""}
    assert run_errorcast("jobs", **environment).code == 0
