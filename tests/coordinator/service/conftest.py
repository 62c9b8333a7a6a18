"""One service for most of the tests, since its Ray takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.in_process import train_here
from support.running import QUICK, TOKEN, Running, serving, until_cluster

from coordinator.client import Client

TASKS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from dfa_tasks import Splits, Task

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(8, 8), 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 20:
            raise ArithmeticError("the layer gives up")
        return self.linear(x)

def data():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    return Splits(TensorDataset(x, (x[:, 0] > 0).long()), TensorDataset(x, (x[:, 0] > 0).long()))

def make_failing():
    model = nn.Sequential(nn.Linear(8, 8), Fails(), nn.Linear(8, 2))
    return Task(model=model, loss=nn.functional.cross_entropy, data=data,
                defaults={"batch_size": 16})

def make_wide():
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2000))
    return Task(model=model, loss=nn.functional.cross_entropy, data=data,
                defaults={"batch_size": 16, "method": "shallow", "epochs": 1, "blocks": 1})

def make_hanging():
    while True:
        pass

def make_dying():
    import os
    os._exit(3)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests more time: a job starts three processes, some jobs do so four times."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "mytask.py").write_text(TASKS, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, tasks: Path) -> Iterator[Running]:
    """A service with a Ray of its own, a token, the page, and code that it may run."""
    state = tmp_path_factory.mktemp("service") / "state"
    flags = ("--cpus", "4", "--web", "127.0.0.1:0", "--allow-code", str(tasks))
    with serving(state, *flags, token=TOKEN) as running:
        until_cluster(running.address)
        yield running


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    with service.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of QUICK with 15 epochs, trained in one process."""
    run = train_here(run_dir=tmp_path_factory.mktemp("run"), **{**QUICK, "epochs": 15})
    return run.folder / "model.safetensors"
