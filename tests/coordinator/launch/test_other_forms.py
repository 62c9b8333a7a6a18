"""A run on workers, with test data of another form than the training data, that warns."""

import warnings
from pathlib import Path
from typing import Any

import torch
from support.in_process import train_here
from support.runs import Listener, weights
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from coordinator import train
from coordinator.training.events import FaultSeen, Warned
from dfa_tasks import Splits, Task


class Warns(nn.Conv2d):
    """Warns after some calls: only where it is trained, not where it is tried."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 40:
            warnings.warn("a strange layer", stacklevel=1)
        return torch.tanh(super().forward(x))


class Images(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, samples: int, size: int) -> None:
        self.x = torch.randn(samples, 1, size, size, generator=torch.Generator().manual_seed(size))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        warnings.warn("a strange\nsample", UserWarning, stacklevel=1)
        return self.x[index], (self.x[index].mean() > 0).long()


def loss(output: Tensor, target: Tensor) -> Tensor:
    warnings.warn("a strange loss", RuntimeWarning, stacklevel=1)
    return nn.functional.cross_entropy(output, target)


def task() -> Task:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), Warns(4, 4, 3, padding=1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    x, y = (
        torch.stack(parts) for parts in zip(*[Images(90, 5)[i] for i in range(90)], strict=True)
    )
    return Task(net, loss, Splits(Images(160, 6), TensorDataset(x, y), Images(64, 8)), name="sizes")


def test_other_sizes_are_evaluated_and_each_warning_is_shown_once(
    a_ray: None, tmp_path: Path
) -> None:
    job: dict[str, Any] = {"batch_size": 16, "epochs": 2, "blocks": 2, "microbatches": 4}
    listener = Listener()
    run = train(task(), run_dir=tmp_path / "run", viewer=listener, **job)
    assert sorted(message.split(" (")[0] for message in listener.messages(Warned)) == [
        "RuntimeWarning: a strange loss",
        "UserWarning: a strange layer",
        "UserWarning: a strange sample",
    ]
    assert all(
        m.endswith(")") and "test_other_forms.py, line" in m for m in listener.messages(Warned)
    )
    assert not [event for event in listener.events if isinstance(event, FaultSeen)]
    here = train_here(task(), tmp_path / "here", **job)
    assert run.metrics == here.metrics
    assert weights(run.folder) == weights(here.folder)
