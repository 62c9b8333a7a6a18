"""Hosts of a test's own: network namespaces with addresses of their own, joined by a bridge."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
_V4, _V6 = ("10.199.77.{}", "24"), ("fd00:ec77::{}", "64")


@dataclass
class Host:
    """A namespace; what is started in it ends with it."""

    name: str
    address: str
    cable: tuple[str, ...] = ()  # to the first host: a link's name there
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def at(self, port: int) -> str:
        """Return a port of it as clients name it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{port}"

    def command(self, *arguments: str) -> list[str]:
        """Return a command of the environment that the tests run in, to be run on this host."""
        return ["ip", "netns", "exec", self.name, str(BIN / arguments[0]), *arguments[1:]]

    def run(self, *arguments: str, seconds: float = 60, **environment: str) -> str:
        """Run a command to its end; return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert done.returncode == 0, f"{' '.join(arguments)}: {said}"
        return done.stdout

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        process = subprocess.Popen(
            self.command(*arguments),
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """Return all processes that run on it."""
        found = _ip("netns", "pids", self.name).split()
        return [psutil.Process(int(pid)) for pid in found if psutil.pid_exists(int(pid))]

    def runs(self, pid: int) -> bool:
        """Return whether a process runs on it."""
        return str(pid) in _ip("netns", "pids", self.name).split()

    def count(self, what: str) -> int:
        """Return how many of its processes bear this in their command line."""
        lines = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                lines.append(" ".join(process.cmdline()))
        return sum(what in line for line in lines)

    def join(self, head: "Host", token: str, cpus: int = 1) -> None:
        """Start Ray here, of the cluster whose head is that host; the first to join is the head."""
        part = ("--head", "--port=6379", "--include-dashboard=false")
        self.run(
            "ray",
            "start",
            *(part if head is self else (f"--address={head.at(6379)}",)),
            f"--node-ip-address={self.address}",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=token,
        )

    def cut_off(self) -> None:
        """Unplug it: what runs on it goes on, and reaches nobody."""
        _ip("-n", *self.cable, "down")

    def kill(self) -> None:
        """Kill all that runs on it."""
        left = self.processes()
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=10)

    def end(self) -> None:
        """End what was started on it, then kill the rest."""
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        self.kill()


@contextmanager
def hosts(count: int, v6: bool = False) -> Iterator[Sequence[Host]]:
    """Make so many hosts that reach one another, and nothing else; skip where that cannot be.

    v6: with IPv6 addresses alone.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2: it makes network namespaces")
    stem = f"ec{os.getpid()}"
    address, prefix = _V6 if v6 else _V4
    made = [Host(f"{stem}-{n}", address.format(n)) for n in range(1, count + 1)]
    at_once = ("nodad",) if v6 else ()  # without waiting for another that has the address
    with ExitStack() as at_end:
        for host in made:
            try:
                _ip("netns", "add", host.name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
            at_end.callback(_ip, "netns", "delete", host.name)
            at_end.callback(host.end)
            _ip("-n", host.name, "link", "set", "lo", "up")
        first = made[0].name
        _ip("-n", first, "link", "add", "bridge", "type", "bridge")
        _ip("-n", first, "link", "set", "bridge", "up")
        _ip("-n", first, "address", "add", f"{made[0].address}/{prefix}", "dev", "bridge", *at_once)
        for n, host in enumerate(made[1:], start=2):
            pair = ("type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("-n", first, "link", "add", f"to-{n}", *pair)
            _ip("-n", first, "link", "set", f"to-{n}", "master", "bridge", "up")
            host.cable = (first, "link", "set", f"to-{n}")
            _ip("-n", host.name, "link", "set", "eth0", "up")
            _ip(
                "-n",
                host.name,
                "address",
                "add",
                f"{host.address}/{prefix}",
                "dev",
                "eth0",
                *at_once,
            )
        yield made


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return done.stdout
