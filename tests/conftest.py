"""Shared by all tests: one thread a process, a folder of real data, one Ray a process."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import ray
import torch
from support.process_groups import ScheduledByGroup, group_of

from coordinator.launch.ray_session import ray_for
from workers.grid import Grid
from workers.placement import Placement, Worker, WorkerResources

if TYPE_CHECKING:
    from playwright.sync_api import Browser

torch.set_num_threads(1)
hypothesis.settings.register_profile(  # an example may wait for a core
    "errorcast", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("errorcast")
os.environ["ERRORCAST_POISON"] = "1"  # who reads a message after its memory was taken gets NaN
os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112  # no process for each CPU


COSTS = ("unit", "trains", "blocks", "ray", "service", "host", "endurance", "gpu")
BY_FIXTURE = {**dict.fromkeys(("service", "secured", "fuzzed"), "service"), "a_ray": "ray"}
GROUPS = {"four_workers": "engine", "service": "service"}


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ScheduledByGroup:
    """Divide the tests among processes: `pytest -n 2`, as `make test` does."""
    return ScheduledByGroup(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with what it costs, where it does not say so itself; skip what has no GPU."""
    marks = {mark.name for mark in item.iter_markers()} & {*COSTS}
    if not marks:
        fixtures = getattr(item, "fixturenames", ())
        found = (cost for fixture, cost in BY_FIXTURE.items() if fixture in fixtures)
        item.add_marker(next(found, "unit"))
    elif len(marks) > 1:
        raise pytest.UsageError(f"{item.nodeid}: has {len(marks)} marks of cost, not one")
    groups = {GROUPS.get(fixture) for fixture in getattr(item, "fixturenames", ())} - {None}
    if groups - {group_of(item.nodeid)} and "endurance" not in marks:
        raise pytest.UsageError(f"{item.nodeid}: is not in the groups {groups} of its fixtures")
    if "gpu" in marks and not torch.cuda.is_available():
        item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium for one file, as no event loop can start beside its own."""
    from support.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; without one, the test is skipped and says why."""
    named = os.environ.get("ERRORCAST_DATA")
    if not named or not (Path(named) / "fashion-mnist").is_dir():
        pytest.skip("needs real data: point ERRORCAST_DATA at a folder with fashion-mnist/ in it")
    return Path(named).absolute()


@pytest.fixture(scope="session")
def folder_of_all_data(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every task finds its data: of Criteo, a sample."""
    folder = tmp_path_factory.mktemp("data")
    for name in (
        "fashion-mnist",
        "movielens-100k",
        "nerf-synthetic",
        "planetoid",
        "tiny-shakespeare",
    ):
        (folder / name).symlink_to(real_data / name)
    (folder / "criteo").mkdir()
    (folder / "criteo" / "train.txt").symlink_to(real_data / "criteo-sample" / "criteo_1000.txt")
    for name in ("wikitext-2", "wikitext-103"):  # without their training parts
        (folder / name).mkdir()
        for part, there in (("train", "valid"), ("valid", "valid"), ("test", "test")):
            text = real_data / "wikitext-2" / f"{there}.txt"
            (folder / name / f"{part}.txt").symlink_to(text)
    return folder


@pytest.fixture
def all_data(folder_of_all_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder; what is prepared from it is kept beside it."""
    monkeypatch.setenv("ERRORCAST_CACHE", str(folder_of_all_data / "cache"))
    return folder_of_all_data


@pytest.fixture(scope="session")
def a_ray() -> Iterator[None]:
    """A Ray of our own that the tests of this process share; it has room for workers they keep."""
    with ray_for(workers=24, cpus=1.0):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def four_workers(a_ray: None) -> Iterator[list[Worker]]:
    """Four block actors, which tests build and join again and again."""
    placement = Placement(Grid(4), WorkerResources())
    yield placement.workers
    placement.release()
