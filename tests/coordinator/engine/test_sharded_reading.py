"""Blocks that read their replica's share of the data: the bits of a job whose coordinator reads."""

import os
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from support.networks import NETWORKS, rule
from support.pairwise import combinations
from support.pipelines import LOSS, SAMPLES, STEPS, assert_like, pipeline, train
from torch import Tensor
from torch.utils.data import Dataset

from coordinator.engine.pipeline import Pipeline
from dfa_core import JobError, Reference
from dfa_tasks.shares import Shares
from dfa_tasks.source import as_source
from workers.placement import Worker


def fit(_place: str, _blocks: int, replicas: int, cut: tuple[int, int]) -> bool:
    """Gradients of steps that are still open are saved as sums over the replicas."""
    return replicas == 1 or cut[1] == 0


@pytest.mark.parametrize(
    ("head", "blocks", "replicas", "cut"),
    combinations(
        ["coordinator", "block", "workers"], (1, 2), (1, 2), [(4, 0), (2, 3)], allowed=fit
    ),
)
def test_it_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    head: str,
    blocks: int,
    replicas: int,
    cut: tuple[int, int],
) -> None:
    heads = int(head == "workers" and (blocks + 1) * replicas <= 4)
    place = "block" if head == "workers" else head
    r = rule("adam", cut[0], staleness=cut[1])
    settings = {"head": place, "heads": heads, "replicas": replicas, "readers": 1}
    reference = partial(Reference, NETWORKS["norm-dropout"], LOSS, r, replicas=replicas)
    if heads or place == "block":
        reference = partial(reference, heads=1)
    with pipeline(four_workers, "norm-dropout", r, blocks, **settings) as engine:
        assert_like(reference, engine, tmp_path, 8)


class Numbered(Dataset[tuple[Tensor, Tensor]]):
    """Samples that draw; it counts how many were read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 4 * SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        return torch.rand(3) + index, torch.tensor(index)


@pytest.mark.unit
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_the_shares_are_the_batch_and_each_sample_is_read_once(replicas: int) -> None:
    data = Numbered()
    whole = as_source(data, SAMPLES, seed=1)
    shares = Shares(whole, SAMPLES, 8, replicas)
    for step in (0, 3, 5):
        x, target = whole.batch(step)
        data.read.clear()
        parts = [shares.share(step, r) for r in range(replicas)]
        assert len(data.read) == SAMPLES
        for r, (own, of_own) in enumerate(parts):
            rows = torch.arange(SAMPLES).view(8, -1)[r::replicas].flatten()
            assert torch.equal(own, x[rows])
            assert torch.equal(of_own, target[rows])


@pytest.mark.unit
def test_a_batch_source_is_cut_and_a_batch_of_another_size_is_named() -> None:
    class Odd:
        steps_per_epoch = 2

        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            return torch.arange(8.0), torch.arange(8 if step == 0 else 7)

    shares = Shares(Odd(), 8, 4, 2)
    assert shares.share(0, 1)[0].tolist() == [2, 3, 6, 7]
    with pytest.raises(JobError, match=r"batch\(1\) of Odd .* 8 samples"):
        shares.share(1, 0)


def readers(engine: Pipeline) -> list[psutil.Process]:
    children = [c for p in engine.processes() for c in psutil.Process(p).children(recursive=True)]
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_reader_costs_nothing_and_all_end_with_their_worker(
    four_workers: list[Worker],
) -> None:
    r = rule("sgd", 4)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r, replicas=2)
    with pipeline(four_workers, "norm-dropout", r, 2, replicas=2, readers=1) as engine:
        engine.start(None)
        losses = train(engine, 0, 2)
        reading = readers(engine)
        assert len(reading) == 2
        for reader in reading:
            os.kill(reader.pid, signal.SIGKILL)
        losses += train(engine, 2, STEPS)
        assert engine.waited_for_data() > 0
    assert losses == train(reference, 0, STEPS)


class Changing:
    """Samples of another form from step 3 on."""

    steps_per_epoch = 8

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        from support.networks import Noise

        x, target = Noise().batch(step)
        return (x.double() if step >= 3 else x), target


def test_data_of_another_form_are_refused_with_their_step(four_workers: list[Worker]) -> None:
    source = Changing()
    with pipeline(four_workers, "norm-dropout", rule("sgd", 2), 2, source=source, readers=1) as e:
        e.start(None)
        train(e, 0, 2)
        with pytest.raises(JobError, match="training data of step 3 .*float64"):
            train(e, 2, 5)
