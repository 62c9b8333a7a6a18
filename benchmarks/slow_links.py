"""Runs a command on hosts of its own, whose links are slow.

    sudo env PATH="$PATH" python -m benchmarks.slow_links --latency 10ms --bandwidth 1Gb/s -- \
        errorcast bench mlp --blocks 2 --ray-address {address}

The hosts are network namespaces of this machine. Each has one CPU of a Ray cluster and a TUN
device; this process carries the packets from one device to another. It needs Linux, root and
iproute2.
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from coordinator.cli.units import bits_per_second, seconds

_ADDRESS, _MTU = "10.199.78.{}", 16_000
_TUNSETIFF, _TUN_WITHOUT_HEADER, _NEW_NETWORK = 0x400454CA, 0x1001, 0x40000000
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}


class Hub(threading.Thread):
    """Carries packets between TUN devices, each a latency later, and no faster than a bandwidth.

    Every host sends at that bandwidth. No packet is lost.
    """

    def __init__(self, devices: Sequence[int], latency_s: float, bits_per_s: float) -> None:
        """devices: the open device of host n at place n, with the address that ends in n + 1."""
        super().__init__(name="hub", daemon=True)
        self._devices, self._latency_s, self._bits_per_s = devices, latency_s, bits_per_s
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, int, bytes]] = []  # due, order, device, packet
        self._sent = dict.fromkeys(devices, 0.0)  # when the last packet of each has left

    def run(self) -> None:
        """Carry packets as long as the process lives."""
        while True:
            wait = self._under_way[0][0] - time.monotonic() if self._under_way else None
            ready, _, _ = select.select(self._devices, [], [], wait and max(0.0, wait))
            for device in ready:
                self._take(device)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(self._under_way)
                os.write(to, packet)

    def _take(self, device: int) -> None:
        packet = os.read(device, 65_536)
        host = packet[19] - 1 if packet[0] >> 4 == 4 else -1  # the last byte of an IPv4 address
        if host not in range(len(self._devices)):
            return
        left = max(time.monotonic(), self._sent[device]) + 8 * len(packet) / self._bits_per_s
        self._sent[device] = left
        due = left + self._latency_s
        heapq.heappush(self._under_way, (due, next(self._order), self._devices[host], packet))


def _ip(*arguments: str) -> str:
    command = ["ip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def _open_tun(host: str) -> int:
    """Open a TUN device in a namespace; any thread may then use it."""
    opened = list[int]()

    def enter_and_open() -> None:  # the namespace is that of this thread alone
        with Path("/run/netns", host).open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"slow", _TUN_WITHOUT_HEADER))
        opened.append(device)

    thread = threading.Thread(target=enter_and_open)
    thread.start()
    thread.join()
    return opened[0]


@contextmanager
def slow_hosts(count: int, latency_s: float, bits_per_s: float) -> Iterator[list[str]]:
    """Make this many hosts; return their names. Host n has the address of address(n)."""
    names = [f"slow{os.getpid()}-{n}" for n in range(count)]
    with ExitStack() as at_end:
        devices = []
        for n, host in enumerate(names):
            _ip("netns", "add", host)
            at_end.callback(_ip, "netns", "delete", host)
            at_end.callback(_kill_all, host)
            _ip("-n", host, "link", "set", "lo", "up")
            devices.append(_open_tun(host))
            _ip("-n", host, "address", "add", f"{address(n)}/24", "dev", "slow")
            _ip("-n", host, "link", "set", "slow", "mtu", str(_MTU), "txqueuelen", "10000", "up")
        Hub(devices, latency_s, bits_per_s).start()
        yield names


def address(host: int) -> str:
    """Return the address of host n, from 0."""
    return _ADDRESS.format(host + 1)


def _kill_all(host: str) -> None:
    for pid in _ip("netns", "pids", host).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _on(host: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", host, *command]


def _start_ray(names: Sequence[str]) -> str:
    """Start a Ray cluster with one CPU on each host; return its address."""
    ray, cluster = shutil.which("ray") or "ray", f"{address(0)}:6379"
    for n, host in enumerate(names):
        part = (f"--address={cluster}",) if n else ("--head", "--port=6379")
        own = (f"--node-ip-address={address(n)}", "--num-cpus=1", "--disable-usage-stats")
        memory = ("--object-store-memory=200000000", "--include-dashboard=false")
        command = _on(host, ray, "start", *part, *own, *(memory if not n else memory[:1]))
        environment = {**os.environ, **_TOKEN}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603
    return cluster


def main() -> None:
    """Run the command on the first host, once all have joined."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--latency", default="10ms", help="one way, of every packet")
    parser.add_argument("--bandwidth", default="1Gb/s", help="of every sender")
    parser.add_argument("command", nargs="+", help="{address} becomes that of the Ray cluster")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host is left
    latency_s = seconds("latency", given.latency)
    bits_per_s = bits_per_second("bandwidth", given.bandwidth)
    with slow_hosts(given.hosts, latency_s, bits_per_s) as names:
        cluster = _start_ray(names)
        command = [part.format(address=cluster) for part in given.command]
        environment, here = {**os.environ, **_TOKEN}, _on(names[0], *command)
        code = subprocess.run(here, env=environment, check=False).returncode  # noqa: S603
    sys.exit(code)


if __name__ == "__main__":
    main()
