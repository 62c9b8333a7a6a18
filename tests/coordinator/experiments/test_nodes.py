"""A whole node is lost, killed or cut off: what it held comes back from a neighbour's memory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import nodes
from support.hosts import Host, hosts
from support.in_process import train_here
from support.runs import weights

TOKEN = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


def messages(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in process.stdout or []:
        if line.startswith("{"):
            yield json.loads(line)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the same job in one process."""
    run = train_here("digits", tmp_path_factory.mktemp("alone") / "run", **nodes.JOB)
    return run.folder / "model.safetensors"


def assert_like_in_one_process(folder: Path, alone: Path) -> None:
    assert weights(folder / "model.safetensors") == weights(alone)
    steps = [
        json.loads(line)["step"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert steps == list(range(1, 15 * 22 + 1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("killed", marks=pytest.mark.endurance),
        pytest.param("cut off", marks=pytest.mark.host),
    ],
)
def test_a_host_is_lost_and_the_bits_are_the_same(alone: Path, tmp_path: Path, how: str) -> None:
    lost: Host | None = None
    received, where = list[dict[str, Any]](), list[Host]()
    with hosts(3) as there:
        head = there[0]
        for host in there:
            host.join(head, TOKEN["RAY_AUTH_TOKEN"])
        program = ("python", nodes.__file__, f"{head.address}:6379", str(tmp_path))
        for message in messages(head.start(*program, **TOKEN)):
            received.append(message)
            if "workers" in message:
                where = [host for pid in message["workers"] for host in there if host.runs(pid)]
                assert len({host.name for host in where}) == 2, "a worker on each of two hosts"
                assert lost not in where
            if message.get("step", 0) > 100 and lost is None:
                lost = next(host for host in where if host is not head)
                lost.kill() if how == "killed" else lost.cut_off()
    assert received[-1]["finished"], received[-1]
    assert lost
    assert any(message.get("kind") == "Recovered" for message in received)
    assert_like_in_one_process(tmp_path / "run", alone)


@pytest.mark.endurance
@pytest.mark.timeout(300)
def test_a_killed_ray_node_of_this_host_is_replaced(alone: Path, tmp_path: Path) -> None:
    program = [sys.executable, nodes.__file__, "cluster", str(tmp_path)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, text=True, env={**os.environ, **TOKEN}
    ) as run:
        try:
            received = list(messages(run))
        finally:
            for child in psutil.Process(run.pid).children(recursive=True) if run.poll() else []:
                child.kill()
            run.kill()
    assert received[-1]["finished"], received[-1]
    kinds = [message.get("kind") for message in received]
    assert {"lost": "node"} in received
    assert "Recovered" in kinds
    assert_like_in_one_process(tmp_path / "run", alone)
