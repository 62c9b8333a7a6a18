"""Processes that read batches ahead: the same batches, also when one is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from coordinator.job.user_code import own_folders
from dfa_core import JobError
from dfa_tasks import BatchSource
from dfa_tasks.source import as_source
from workers.payload import PickledPayload
from workers.reading.parallel_source import ParallelSource

SAMPLES, BATCH = 40, 8

pytestmark = pytest.mark.blocks


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples that draw from the global generator."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.rand(3) + index, torch.tensor(index).bfloat16()


class Failing(TensorDataset):
    """Some samples are not there, or end their reader."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if index == 30:
            raise FileNotFoundError("no sample 30")
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class InOrder(BatchSource):
    """A failing data set, in its order."""

    steps_per_epoch = SAMPLES // BATCH

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        data = Failing(torch.arange(SAMPLES).float(), torch.arange(SAMPLES))
        first = step * BATCH
        rows = [data[i] for i in range(first, min(SAMPLES, first + BATCH))]
        x, target = (torch.stack(list(column)) for column in zip(*rows, strict=True))
        return x, target


def parallel(source: BatchSource, processes: int) -> ParallelSource:
    packed = PickledPayload.pack(source, own_folders())
    return ParallelSource(packed, processes, source.steps_per_epoch)


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[BatchSource, ParallelSource]]:
    source = as_source(Noisy(), BATCH, seed=3)
    made = parallel(source, 2)
    yield source, made
    made.close()


def assert_same(two: tuple[BatchSource, ParallelSource], steps: list[int]) -> None:
    source, made = two
    for step in steps:
        for expected, found in zip(source.batch(step), made.batch(step), strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def test_they_give_the_sources_batches_in_any_order(
    two: tuple[BatchSource, ParallelSource],
) -> None:
    assert two[1].steps_per_epoch == two[0].steps_per_epoch
    assert_same(two, [0, 1, 2, 3, 9, 2, 3])  # 9: of another epoch; 2: after a recovery


def test_a_killed_reader_is_replaced(two: tuple[BatchSource, ParallelSource]) -> None:
    assert_same(two, [0])
    for process in psutil.Process().children():
        if "spawn_main" in " ".join(process.cmdline()):
            process.kill()
    assert_same(two, [1, 2, 3])


def test_what_fails_is_said_and_a_fault_of_the_data_is_not_retried_for_ever() -> None:
    made = parallel(InOrder(), 1)
    try:
        with pytest.raises(JobError, match="FileNotFoundError: no sample 30"):
            made.batch(3)
        for times in (3, 4):  # the prefetcher asks for the steps after it too
            died = rf"died {times} times in a row, at step 0 .*data_workers=0"
            with pytest.raises(JobError, match=died):
                made.batch(0)
    finally:
        made.close()


class Slow(InOrder):
    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        time.sleep(60 if step else 0)
        return torch.zeros(BATCH), torch.zeros(BATCH)


def test_who_waits_for_a_batch_when_it_is_closed_starts_no_new_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, ended, asked = parallel(Slow(), 1), list[BaseException | None](), threading.Event()
    made.batch(0)
    read_ahead = made._read_ahead

    def noted(step: int) -> Any:
        future = read_ahead(step)
        asked.set()
        return future

    monkeypatch.setattr(made, "_read_ahead", noted)

    def wait() -> None:
        with pytest.raises(JobError, match="the run has ended"):
            made.batch(1)
        ended.append(None)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert asked.wait(20)
    made.close()
    waiting.join(20)
    assert ended == [None]
    assert made._pool is None


PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from test_parallel_source import BATCH, Noisy, parallel
from dfa_tasks.source import as_source
if __name__ == "__main__":
    made = parallel(as_source(Noisy(), BATCH, seed=3), 2)
    made.batch(0)
    print("read", flush=True)
    time.sleep(60)
"""


def test_they_end_with_their_parent(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(PARENT.format(here=str(Path(__file__).parent)))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "read\n"
        readers = psutil.Process(run.pid).children(recursive=True)
        run.kill()
    assert len(readers) >= 2
    _, alive = psutil.wait_procs(readers, timeout=20)
    assert not alive
