"""How many CPUs affinity and cgroups leave: a Ray of our own starts as many processes."""

import os
from pathlib import Path

import pytest

from workers.machine.cpus import usable_cpus


@pytest.fixture(autouse=True)
def six_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is pinned to six CPUs of a machine with 64."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10, 16)))


def cpus(folder: Path, own: str, **files: str) -> int:
    """Return the CPUs, where cgroup `own` has files of this content; `__` is a slash."""
    (folder / "own").write_text(own)
    for name, content in files.items():
        file = folder / "mounted" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return usable_cpus(folder / "own", folder / "mounted")


def test_affinity_counts_where_there_is_no_quota(tmp_path: Path) -> None:
    assert cpus(tmp_path, "0::/\n") == 6
    assert usable_cpus(tmp_path / "none", tmp_path) == 6


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 6), ("150000 100000", 1), ("400000 100000", 4), ("50000 100000", 1),
     ("900000 100000", 6), ("200000 50000", 4), ("", 6), ("rubbish", 6)],
)  # fmt: skip
def test_a_quota_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    assert cpus(tmp_path, "0::/\n", **{"cpu.max": quota}) == expected


def test_the_smallest_quota_of_all_groups_around_counts(tmp_path: Path) -> None:
    own = "0::/pod/container\n"
    files = {"pod__container__cpu.max": "max 100000", "pod__cpu.max": "300000 100000"}
    assert cpus(tmp_path, own, **files) == 3
    files = {"pod__container__cpu.max": "200000 100000"}
    assert cpus(tmp_path, own, **files) == 2


@pytest.mark.parametrize("place", ["docker__1__", ""])
def test_a_quota_of_version_1(tmp_path: Path, place: str) -> None:
    """A container names its group as the host does, but sees it as the outermost."""
    own = "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n"
    at = f"cpu,cpuacct__{place}cpu.cfs_"
    assert cpus(tmp_path, own, **{f"{at}quota_us": "250000", f"{at}period_us": "100000"}) == 2
    assert cpus(tmp_path, own, **{f"{at}quota_us": "-1"}) == 6
