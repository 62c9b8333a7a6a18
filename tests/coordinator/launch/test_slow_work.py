"""Work that is merely slow, longer than `timeout_s`, is waited for: no fault, and the same bits."""

from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import torch
from support.in_process import train_here
from support.runs import Listener, weights
from torch import Tensor, nn
from torch.utils.data import Dataset

from coordinator import train
from coordinator.training.events import FaultSeen, Waiting
from dfa_tasks import Model, Splits, Task

TIMEOUT_S, SLOW_S = 1.0, 2.0


class SlowBatch:
    """Batches, one of which comes from a cold file."""

    steps_per_epoch = 6

    def __init__(self, slow_s: float) -> None:
        self.slow_s = slow_s

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        sleep(self.slow_s if step == 3 else 0)
        x = torch.randn(8, 10, generator=torch.Generator().manual_seed(step))
        return x, (x[:, 0] > 0).long()


class SlowTest(Dataset[tuple[Tensor, Tensor]]):
    """Test data, one sample of which is slow."""

    def __init__(self, slow_s: float) -> None:
        self.slow_s = slow_s

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sleep(self.slow_s if index == 3 else 0)
        x = torch.randn(10, generator=torch.Generator().manual_seed(index))
        return x, (x[0] > 0).long()


class SlowLayer(nn.Linear):
    """A layer that is slow to build, to compute once, and to give its state to a checkpoint."""

    def __init__(self, slow_s: float) -> None:
        super().__init__(10, 10)
        sleep(slow_s)
        self.forwards, self.slow_s = 0, slow_s

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        sleep(self.slow_s if self.forwards == 5 else 0)
        return torch.tanh(super().forward(x))


def task(slow_s: float) -> Task:
    return Task(
        model=Model((partial(SlowLayer, slow_s), nn.Sequential), lambda: nn.Linear(10, 2)),
        loss=nn.functional.cross_entropy,
        data=lambda: Splits(SlowBatch(slow_s), SlowTest(slow_s)),
        defaults={"batch_size": 8, "epochs": 1, "blocks": 1},
        name="slow",
    )


def test_slow_work_is_no_fault(a_ray: None, tmp_path: Path) -> None:
    seen, settings = Listener(), dict[str, Any](resources={"timeout_s": TIMEOUT_S})
    run = train(task(SLOW_S), run_dir=tmp_path / "run", viewer=seen, **settings)
    assert run.summary["faults"]["recovered"] == 0
    assert not [event for event in seen.events if isinstance(event, FaultSeen)]
    here = train_here(task(0), tmp_path / "here", **settings)
    assert weights(run.folder) == weights(here.folder)


def test_a_wait_is_told_in_one_line() -> None:
    assert Waiting("the data of step 7", 12.3).message == (
        "waiting for the data of step 7: 12 s so far"
    )
