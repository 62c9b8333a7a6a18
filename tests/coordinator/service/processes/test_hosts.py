"""A cluster of several hosts, each with an address of its own: blocks on all of them."""

import json
import secrets
import subprocess
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from support.command_line import own_imports
from support.hosts import Host, hosts
from support.in_process import train_here
from support.own_project import add_user, project
from support.runs import weights

CERTIFICATES = Path(__file__).parents[4] / "deploy" / "certs" / "make_test_ca.sh"
JOB: dict[str, Any] = {"epochs": 20, "options": {"width": 32, "layers": 4}, "log_every": 1}


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_blocks_on_three_hosts_and_a_fourth_that_comes_later(tmp_path: Path) -> None:
    undisturbed = train_here("digits", tmp_path / "alone", **JOB)
    token, ray_token = secrets.token_hex(16), secrets.token_hex(32)
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with hosts(4) as there:
        head = there[0]
        subprocess.run([CERTIFICATES, tmp_path / "certs", head.address], check=True)
        for host in there[:3]:
            host.join(head, ray_token)
        service = head.start(
            "errorcast",
            "serve",
            *("--listen", f"{head.address}:7070", "--state", str(tmp_path / "state")),
            *("--ray-address", f"{head.address}:6379", "--token-file", str(tmp_path / "token")),
            *("--tls-cert", str(tmp_path / "certs" / "service.pem")),
            *("--tls-key", str(tmp_path / "certs" / "service-key.pem")),
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=ray_token,
        )
        assert service.stdout is not None
        said = service.stdout.readline()
        assert f"listens on {head.address}:7070" in said

        access = {
            "ERRORCAST_ADDRESS": f"{head.address}:7070",
            "ERRORCAST_TOKEN": token,
            "ERRORCAST_TLS_CA": str(tmp_path / "certs" / "ca.pem"),
        }
        user = there[1]
        settings = ("blocks=3", "epochs=20", "options.width=32", "options.layers=4", "log_every=1")
        user.run("errorcast", "submit", "digits", *(f"--set={s}" for s in settings), **access)
        watching = user.start("errorcast", "watch", "latest", "--format", "json", **access)
        assert watching.stdout is not None
        events = map(json.loads, watching.stdout)
        next(event for event in events if "metrics" in event)
        assert blocks_on(there) == [1, 1, 1, 0]
        user.run("errorcast", "pause", "latest", **access)
        next(e for e in events if e.get("state", {}).get("state") == "JOB_STATE_PAUSED")
        there[3].join(head, ray_token)
        user.run("errorcast", "scale", "latest", "--blocks", "4", **access)
        user.run("errorcast", "resume", "latest", **access)
        step = next(int(event["metrics"]["step"]) for event in events if "metrics" in event)
        assert blocks_on(there) == [1, 1, 1, 1]
        steps = [int(event["metrics"]["step"]) for event in events if "metrics" in event]
        assert steps == list(range(step + 1, undisturbed.summary["steps"] + 1))
        assert watching.wait(30) == 0
        user.run("errorcast", "download", "latest", "-o", str(tmp_path / "there"), **access)
    assert weights(tmp_path / "there") == weights(undisturbed.folder / "model.safetensors")


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_uploaded_code_trains_on_another_host(tmp_path: Path) -> None:
    """The state folder is one that all hosts see; the user's files are on the user's host."""
    file = project(tmp_path / "mine")
    with chdir(file.parent), own_imports(file.parent):
        expected = weights(train_here(f"{file}:make_task", tmp_path / "alone", epochs=30).folder)
    token = add_user(tmp_path, "alice", "--upload")
    ray_token = secrets.token_hex(32)
    with hosts(2) as there:
        head, other = there
        subprocess.run([CERTIFICATES, tmp_path / "certs", head.address], check=True)
        for host in there:
            host.join(head, ray_token)
        service = head.start(
            "errorcast",
            "serve",
            *("--listen", f"{head.address}:7070", "--state", str(tmp_path / "state")),
            *("--ray-address", f"{head.address}:6379", "--users", str(tmp_path / "users.txt")),
            *("--tls-cert", str(tmp_path / "certs" / "service.pem"), "--allow-uploads"),
            *("--tls-key", str(tmp_path / "certs" / "service-key.pem")),
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=ray_token,
        )
        assert service.stdout is not None
        assert f"listens on {head.address}:7070" in service.stdout.readline()
        access = {
            "ERRORCAST_ADDRESS": f"{head.address}:7070",
            "ERRORCAST_TOKEN": token,
            "ERRORCAST_TLS_CA": str(tmp_path / "certs" / "ca.pem"),
        }
        other.run("errorcast", "submit", f"{file}:make_task", "--set=epochs=30", **access)
        watching = other.start("errorcast", "watch", "latest", "--format", "json", **access)
        assert watching.stdout is not None
        next(line for line in watching.stdout if "metrics" in json.loads(line))
        assert blocks_on(there) == [1, 1]
        assert watching.wait(60) == 0
        other.run("errorcast", "download", "latest", "-o", str(tmp_path / "there"), **access)
    assert weights(tmp_path / "there") == expected


def blocks_on(there: Sequence[Host]) -> list[int]:
    return [host.count("ray::BlockWorker") for host in there]
