"""Training data that are read in order: any step is found again, with the same samples."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import train_here
from support.runs import Listener, weights
from torch import Tensor, nn
from torch.utils.data import IterableDataset, TensorDataset

from coordinator.runs.origin import Origin
from coordinator.training.events import Warned
from dfa_core import JobError
from dfa_tasks import Splits, Task
from dfa_tasks.stream import Stream

SAMPLES, BATCH = 22, 4


class Lines(IterableDataset[Any]):
    """Samples that are augmented with a draw; it counts what is read."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples, self.read = samples, 0

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.samples):
            yield self.sample(number)

    def sample(self, number: int) -> tuple[Tensor, int]:
        self.read += 1
        return number + torch.rand(3), number


class Shards(Lines):
    """The same from a position that can be saved, round and round."""

    def __init__(self, samples: int = SAMPLES) -> None:
        super().__init__(samples)
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        while self.position < self.samples:
            self.position += 1
            yield self.sample(self.position - 1)
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def numbers(stream: Stream, steps: range) -> list[int]:
    return [int(n) for step in steps for n in stream.batch(step)[1]]


def test_without_a_state_each_epoch_begins_anew() -> None:
    stream = Stream(Lines(), BATCH, seed=1)
    assert stream.steps_per_epoch == 5
    assert numbers(stream, range(10)) == [*range(20), *range(20)]


def test_with_a_state_it_goes_on_where_it_was() -> None:
    stream = Stream(Shards(), BATCH, seed=1)
    assert numbers(stream, range(10)) == [n % SAMPLES for n in range(40)]
    assert stream.state(1) == {"position": 4}
    assert stream.state(99) is None


@pytest.mark.parametrize("kind", [Lines, Shards])
def test_any_step_is_found_again_with_the_same_bits(kind: type[Lines]) -> None:
    through = Stream(kind(), BATCH, seed=1)
    expected = [through.batch(step) for step in range(12)]
    jumping = Stream(kind(), BATCH, seed=1)
    for step in (3, 4, 11, 0, 1, 7, 6):
        for found, of_step in zip(jumping.batch(step), expected[step], strict=True):
            assert torch.equal(found, of_step)
    assert not torch.equal(expected[0][0], expected[5][0])  # drawn anew


def test_a_state_spares_reading_what_was_read() -> None:
    first = Stream(Shards(1000), BATCH, seed=1)
    expected = [first.batch(step) for step in range(203)][200:]
    data = Shards(1000)
    resumed = Stream(data, BATCH, seed=1)
    resumed.resume(200, first.state(200))
    found = [resumed.batch(step) for step in range(200, 203)]
    assert data.read == 12
    for batch, other in zip(found, expected, strict=True):
        assert torch.equal(batch[0], other[0])


class Short(Lines):
    def __len__(self) -> int:
        return self.samples + 10


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Opaque(Shards):
    def state_dict(self) -> dict[str, Any]:
        return {"position": torch.zeros(1)}


class Failing(Lines):
    def sample(self, number: int) -> tuple[Tensor, int]:
        if number == 9:
            raise OSError("the disk is gone")
        return super().sample(number)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Endless(), "iterable Endless without a length; give it __len__"),
        (Lines(3), "batch_size: 4 is more than the 3 training samples"),
        (Short(), "sample 22 of Short is not there; by its length an epoch has 32 or more"),
        (Opaque(), "the state of Opaque must be what JSON can hold"),
        (Failing(), "sample 9 of Failing failed: OSError: the disk is gone"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(data: IterableDataset[Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        numbers(Stream(data, BATCH, seed=1), range(8))


class Clock(Lines):
    """Samples that no seed of the job reaches."""

    def sample(self, number: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(time.monotonic_ns() % 1_000_003)), number


def test_a_stream_that_gives_other_samples_each_time_is_told(tmp_path: Path) -> None:
    told = Listener()
    job: dict[str, Any] = {"batch_size": BATCH, "method": "bp", "epochs": 1}
    train_here(task(Clock), tmp_path, viewer=told, **job)
    assert any("gives other samples each time" in said for said in told.messages(Warned))


def task(kind: type[Lines]) -> Task:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, SAMPLES))
    test = TensorDataset(torch.rand(8, 3), torch.arange(8))
    return Task(net, nn.functional.cross_entropy, Splits(kind(), test))


@pytest.mark.parametrize("kind", [Lines, Shards])
def test_a_resumed_run_has_the_bits_of_one_that_ran_through(
    tmp_path: Path, kind: type[Lines]
) -> None:
    job: dict[str, Any] = {"batch_size": BATCH, "microbatches": 2, "method": "bp"}
    job |= {"checkpoint": {"every_steps": 3}}
    whole = train_here(task(kind), tmp_path / "whole", epochs=4, **job)
    train_here(task(kind), tmp_path / "parts", epochs=2, **job)
    parts = train_here(task(kind), tmp_path / "parts", epochs=4, resume=True, **job)
    assert weights(whole.folder) == weights(parts.folder)
    # a run's own reading does not make its data look like other data afterwards
    began = Origin.from_json(json.loads((whole.folder / "origin.json").read_text()))
    assert began is not None
    assert began.other_parts(Origin.of(whole.job, task(kind).splits())) == {}
