"""A user's file, function, data and samples draw what depends on the job's seed alone."""

import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import drawing_task
from support.drawing_task import FEATURES
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from dfa_tasks import Splits, make_task
from dfa_tasks.source import as_source, chunks, draws_nothing, pick

FILE = f"{drawing_task.__file__}:make_sequential"

HELPER = """
import random
NUMBER = random.random()
"""
USES_A_HELPER = """
import random, torch
from torch import nn
import {helper}
from dfa_tasks import Splits, Task

OF_FILE = random.random()

def make_task():
    drawn = [{helper}.NUMBER, OF_FILE, random.random(), float(torch.rand(()))]
    return Task(nn.Sequential(), nn.functional.cross_entropy, lambda: drawn, name=str(drawn))
"""


def disturb() -> None:
    torch.rand(3)
    np.random.seed(None)
    random.seed()


def weights(seed: int) -> Tensor:
    model: Any = make_task(FILE, {}, seed=seed).model
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_ready_model_begins_with_the_same_weights_under_one_seed() -> None:
    once = weights(seed=3)
    disturb()
    assert torch.equal(weights(seed=3), once)
    assert not torch.equal(weights(seed=4), once)


def test_the_callers_streams_are_left_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    undisturbed = torch.rand(2).tolist(), random.random(), np.random.rand()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    splits = make_task(FILE, {}, seed=3).splits(3)
    as_source(splits.train, 8, 3).batch(0)
    list(chunks(splits.test, 10, 3))
    assert (torch.rand(2).tolist(), random.random(), np.random.rand()) == undisturbed


def everything(splits: Splits, seed: int) -> Tensor:
    source = as_source(splits.train, 16, seed)
    batches = [source.batch(step) for step in range(2 * source.steps_per_epoch)]
    tested = list(chunks(splits.test, 20, seed))
    return torch.cat([x for x, _ in [*batches, *tested]])


def test_an_unseeded_split_and_augmentation_are_the_same_each_time() -> None:
    task = make_task(FILE, {}, seed=3)
    once = everything(task.splits(3), 3)
    disturb()
    assert torch.equal(everything(task.splits(3), 3), once)
    assert not torch.equal(everything(task.splits(4), 4), once)


def test_a_sample_draws_by_its_epoch_and_index_alone() -> None:
    """Whatever is read before it, and how many samples are read together."""
    data = make_task(FILE, {}, seed=3).splits(3)
    source = as_source(data.train, 16, 3)
    later = source.batch(7)[0]
    assert torch.equal(as_source(data.train, 16, 3).batch(7)[0], later)
    epochs = [as_source(data.train, 1, 3).batch(step)[0] for step in (0, len(data.train))]
    assert not torch.equal(*epochs)
    parts = [torch.cat([x for x, _ in chunks(data.test, size, 3)]) for size in (1, 7, 100)]
    assert torch.equal(parts[0], parts[1])
    assert torch.equal(parts[0], parts[2])
    assert torch.equal(
        pick(data.test, torch.tensor([5]), 9)[0], pick(data.test, torch.tensor([5]), 9)[0]
    )


class Drawn:
    """A batch source that draws from all generators."""

    steps_per_epoch = 3

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(4, FEATURES) + random.random() + float(np.random.rand())
        return x, torch.zeros(4)


def test_a_batch_source_draws_by_its_step_alone() -> None:
    source = as_source(Drawn(), 4, seed=3)
    assert source.steps_per_epoch == 3
    once = [source.batch(step)[0] for step in range(3)]
    disturb()
    again = [as_source(Drawn(), 4, seed=3).batch(step)[0] for step in reversed(range(3))]
    assert torch.equal(torch.stack(once), torch.stack(again[::-1]))
    assert not torch.equal(once[0], once[1])


class Overridden(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        x, target = super().__getitem__(index)
        return -x, target


def test_a_tensor_dataset_with_samples_of_its_own_is_asked_for_them() -> None:
    x = torch.ones(4, 2)
    assert torch.equal(pick(Overridden(x, x), torch.arange(4))[0], -x)


def test_which_data_is_known_to_draw_nothing() -> None:
    plain = TensorDataset(torch.zeros(4), torch.zeros(4))
    for known in (plain, Subset(plain, [0]), ConcatDataset([plain, Subset(plain, [1])])):
        assert draws_nothing(known)
    augmented: Dataset[Any] = drawing_task.data().train  # type: ignore[assignment]
    for unknown in (augmented, Subset(augmented, [0]), ConcatDataset([plain, augmented]), Drawn()):
        assert not draws_nothing(unknown)


@pytest.fixture
def with_helper(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A task file that imports a module beside it, which draws when it is imported."""
    helper = f"helper_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{helper}.py").write_text(textwrap.dedent(HELPER))
    file = tmp_path / "with_helper.py"
    file.write_text(USES_A_HELPER.format(helper=helper))
    yield lambda: make_task(f"{file}:make_task", {}, seed=3).name
    sys.modules.pop(helper, None)


def test_what_a_file_draws_does_not_depend_on_what_was_imported_before(
    with_helper: Callable[[], str],
) -> None:
    once = with_helper()  # imports the helper
    disturb()
    assert with_helper() == once  # finds it imported


def test_a_helper_draws_the_same_in_every_process(
    with_helper: Callable[[], str], tmp_path: Path
) -> None:
    once = with_helper()
    disturb()
    del sys.modules[f"helper_of_{tmp_path.name}".replace("-", "_")]
    assert with_helper() == once
