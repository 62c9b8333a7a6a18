"""How many CPUs this process may use: fewer than the machine has, in a container or when pinned."""

import os
from collections.abc import Iterator
from pathlib import Path

_OWN = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(own: Path = _OWN, cgroups: Path = _CGROUPS) -> int:
    """Return the whole CPUs that affinity and cgroup quotas leave to this process, at least 1.

    own: the file with the names of this process's cgroups; cgroups: where they are mounted.
    """
    pinned = len(os.sched_getaffinity(0))
    return max(1, int(min([float(pinned), *_quotas(own, cgroups)])))


def _quotas(own: Path, cgroups: Path) -> Iterator[float]:
    """Yield the quota of each cgroup around this process that has one, in CPUs."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(cgroups, path):
                yield from _quota(*_words(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for folder in _upwards(cgroups / controllers, path):
                files = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
                yield from _quota(*(word for file in files for word in _words(file)))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield a cgroup's folder and those around it; a container may see the outermost alone."""
    inside = Path(path.strip("/"))
    for folder in (inside, *inside.parents):
        yield mount / folder


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _quota(*words: str) -> Iterator[float]:
    """Yield a quota from its microseconds in a period: `150000 100000` is 1.5, `max` or -1 none."""
    if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
        yield int(words[0]) / int(words[1])
