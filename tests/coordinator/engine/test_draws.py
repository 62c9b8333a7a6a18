"""What data draws, what layers and heads draw, and what the user's process draws stay apart."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import drawing_task
from support.in_process import train_here
from support.runs import losses, weights
from torch import Tensor, nn
from torch.utils.data import Dataset

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.inspection.saved_run import open_run
from coordinator.job.resolve import resolve
from dfa_core import Head, LearningRule, Model
from dfa_tasks.source import as_source

DRAWING = f"{drawing_task.__file__}:make_task"
SEQUENTIAL = f"{drawing_task.__file__}:make_sequential"
SAMPLES, WIDTH = 16, 8


class Fixed(Dataset[Any]):
    """Always the same samples; what is drawn is thrown away."""

    def __init__(self, draws: bool) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(0.0003)  # an image is decoded
        if self.draws:
            torch.rand(8)
        return torch.full((WIDTH,), index / 64), index % 2


def losses_of_the_head(draws: bool, steps: int = 12) -> list[float]:
    """Train a head with dropout while a thread reads the next batches."""
    rule = LearningRule(microbatches=4)
    head = Head(Model([], drawing_head), nn.functional.cross_entropy, rule)
    prefetcher = Prefetcher(as_source(Fixed(draws), SAMPLES, seed=0), SAMPLES, 4)
    found = []
    try:
        for number, one in enumerate(prefetcher.microbatches(0, steps)):
            step, microbatch = divmod(number, 4)
            found.append(head.error(one.x, one.target, step, microbatch)[0])
            if microbatch == 3:
                head.apply_gradients(step)
    finally:
        prefetcher.close()
    return found


def drawing_head() -> nn.Module:
    width = 256
    return nn.Sequential(
        *(nn.Linear(WIDTH, width), nn.Dropout(0.5), nn.Linear(width, width), nn.Dropout(0.5)),
        nn.Linear(width, 2),
    )


def test_data_that_draws_takes_no_numbers_from_the_heads_dropout() -> None:
    undisturbed = losses_of_the_head(draws=False)
    for _ in range(3):
        assert losses_of_the_head(draws=True) == undisturbed


@pytest.mark.parametrize(("task", "method"), [(DRAWING, "bp"), (SEQUENTIAL, "shallow")])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, task: str, method: str
) -> None:
    settings: dict[str, Any] = {"method": method, "seed": 5, "log_every": 1}
    whole = train_here(task, tmp_path / "whole", epochs=3, **settings)
    torch.rand(3)  # another process would have drawn something else
    train_here(task, tmp_path / "parts", epochs=1, **settings)
    parts = train_here(task, tmp_path / "parts", resume=True, epochs=3, **settings)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert parts.metrics == whole.metrics
    assert open_run(tmp_path / "whole").scores() == whole.metrics
    other = train_here(task, tmp_path / "other", epochs=3, **{**settings, "seed": 6})
    assert other.metrics != whole.metrics


def test_each_method_begins_with_the_same_weights_and_data() -> None:
    """As `errorcast compare` trains them."""

    def begin(method: str, seed: int) -> list[Tensor]:
        job = resolve(SEQUENTIAL, {"method": method, "seed": seed})
        modules = [job.model.build_layer(0, seed), job.model.build_head(seed)]
        data = as_source(job.splits().train, 16, seed).batch(0)[0]
        return [data, *(p.detach() for module in modules for p in module.parameters())]

    for seed in (0, 1):
        first, *others = (begin(method, seed) for method in ("dfa", "bp", "shallow"))
        assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    assert not torch.equal(begin("dfa", 0)[1], begin("dfa", 1)[1])


def test_a_seed_among_the_tasks_defaults_is_the_seed_of_its_draws(tmp_path: Path) -> None:
    """Otherwise a resumed run, whose seed is given, would be another one."""
    file = tmp_path / "seeded_by_default.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from support.drawing_task import make_sequential\n"
        "def make_task():\n"
        "    task = make_sequential()\n"
        "    return replace(task, defaults={**task.defaults, 'seed': 7})\n"
    )
    found = [resolve(f"{file}:make_task", asked) for asked in ({}, {"seed": 7}, {"seed": 8})]
    assert [job.settings.seed for job in found] == [7, 7, 8]
    first, same, other = (job.model.build_head(0)[0].weight for job in found)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
