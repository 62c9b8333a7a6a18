"""A whole node is lost, killed or cut off: what it held comes back from a neighbour's memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import psutil
import pytest
import safetensors.torch

from coordinator import train

TOKEN = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
NAME = f"ec{os.getpid() % 10000}"
RAY = str(Path(sys.executable).parent / "ray")


def sh(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=cwd, env={**os.environ, **TOKEN}
    )
    return done.stdout


@pytest.fixture
def three_hosts(tmp_path: Path) -> Iterator[list[str]]:
    """Three network namespaces with addresses of their own on one bridge, a Ray node in each."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make network namespaces")
    try:
        sh("ip", "link", "add", f"{NAME}b", "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network can be made here: {error}")
    hosts = [f"{NAME}-{i}" for i in (1, 2, 3)]
    try:
        sh("ip", "link", "set", f"{NAME}b", "up")
        for i, host in enumerate(hosts, start=1):
            inside = ("ip", "-n", host)
            sh("ip", "netns", "add", host)
            sh("ip", "link", "add", f"{NAME}v{i}", "type", "veth", "peer", "eth0", "netns", host)
            sh("ip", "link", "set", f"{NAME}v{i}", "master", f"{NAME}b", "up")
            sh(*inside, "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
            sh(*inside, "link", "set", "eth0", "up")
            sh(*inside, "link", "set", "lo", "up")
            where = (
                ("--head", "--port", "6379", "--include-dashboard=false")
                if i == 1
                else ("--address", "10.77.0.1:6379")
            )
            node = ("--node-ip-address", f"10.77.0.{i}", "--num-cpus", "1")
            sh("ip", "netns", "exec", host, RAY, "start", *where, *node, cwd=tmp_path)
        yield hosts
    finally:
        for i, host in enumerate(hosts, start=1):
            with contextlib.suppress(subprocess.CalledProcessError):
                kill_host(host)
                sh("ip", "netns", "del", host)
                sh("ip", "link", "del", f"{NAME}v{i}")
        sh("ip", "link", "del", f"{NAME}b")


def kill_host(host: str) -> None:
    for pid in sh("ip", "netns", "pids", host).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def host_of(pid: int) -> str:
    return sh("ip", "netns", "identify", str(pid)).strip()


def messages(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in process.stdout or []:
        if line.startswith("{"):
            yield json.loads(line)


def assert_like_on_one_node(folder: Path, tmp_path: Path) -> None:
    alone = train("digits", run_dir=tmp_path / "alone", **nodes.JOB)
    ours, theirs = (
        safetensors.torch.load_file(run / "model.safetensors") for run in (folder, alone.folder)
    )
    assert {k: v.numpy().tobytes() for k, v in ours.items()} == {
        k: v.numpy().tobytes() for k, v in theirs.items()
    }
    steps = [
        json.loads(line)["step"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert steps == list(range(1, 30 * 22 + 1))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_a_host_is_lost_and_the_bits_are_the_same(
    a_ray: None, three_hosts: list[str], tmp_path: Path, how: str
) -> None:
    program = [sys.executable, nodes.__file__, "10.77.0.1:6379", str(tmp_path)]
    lost, told = "", list[dict[str, Any]]()
    with subprocess.Popen(
        ["ip", "netns", "exec", three_hosts[0], *program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **TOKEN},
    ) as run:
        try:
            where: list[str] = []
            for message in messages(run):
                told.append(message)
                if "workers" in message:
                    where = [host_of(pid) for pid in message["workers"]]
                    assert len(set(where)) == 2, "a worker on each of two hosts"
                    assert lost not in where
                if message.get("step", 0) > 100 and not lost:
                    lost = next(host for host in where if host != three_hosts[0])
                    if how == "killed":
                        kill_host(lost)
                    else:
                        number = three_hosts.index(lost) + 1
                        sh("ip", "link", "set", f"{NAME}v{number}", "down")
        finally:
            run.kill()
    assert told[-1]["finished"], told[-1]
    assert lost
    assert any(message.get("event") == "recovered" for message in told)
    assert_like_on_one_node(tmp_path / "run", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_ray_node_of_this_host_is_replaced(a_ray: None, tmp_path: Path) -> None:
    program = [sys.executable, nodes.__file__, "cluster", str(tmp_path)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, text=True, env={**os.environ, **TOKEN}
    ) as run:
        try:
            told = list(messages(run))
        finally:
            for child in psutil.Process(run.pid).children(recursive=True) if run.poll() else []:
                child.kill()
            run.kill()
    assert told[-1]["finished"], told[-1]
    kinds = [message.get("event") for message in told]
    assert {"lost": "node"} in told
    assert "recovered" in kinds
    assert_like_on_one_node(tmp_path / "run", tmp_path)
