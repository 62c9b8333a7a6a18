"""Replicas of every block: the reference's numbers, and the same bits however a run goes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
from support.pairwise import combinations
from support.pipelines import IGNORING, LOSS, STEPS, assert_same_state, pipeline, save, saved, train
from torch import Tensor
from torch.utils.data import TensorDataset

from coordinator.experiments.chaos import run_under_faults
from coordinator.job.resolve import resolve
from dfa_core import FeedbackSpec, JobError, Reference
from dfa_core.feedback.rules import FeedbackKind
from workers.grid import Grid, HeadPlace
from workers.placement import Worker
from workers.stage import BlockKind

REPLICAS = 2


@pytest.mark.parametrize(
    ("network", "optimizer", "microbatches", "blocks", "head"),
    combinations(
        ["mlp", "norm-dropout", "several-tensors", "conv"],
        ["sgd", "adam"],
        (2, 4),
        (1, 2),
        ["coordinator", "block"],
    ),
)
def test_two_replicas_of_any_number_of_blocks_give_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    optimizer: str,
    microbatches: int,
    blocks: int,
    head: HeadPlace,
) -> None:
    r = rule(optimizer, microbatches)
    heads = int(head == "block")
    reference = Reference(NETWORKS[network], LOSS, r, replicas=REPLICAS, heads=heads)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, network, r, blocks, REPLICAS, head=head) as engine:
        engine.start(None)
        losses = train(engine, 0, 7) + train(engine, 7, STEPS)
        save(engine, tmp_path, STEPS)
    assert losses == expected
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize("kind", ["local", "forward"])
@pytest.mark.parametrize("block", ["plain", "recomputing"])
def test_matrices_that_change_are_the_same_on_both_replicas(
    four_workers: list[Worker], tmp_path: Path, kind: FeedbackKind, block: BlockKind
) -> None:
    r = rule("adam", 4, feedback=FeedbackSpec(kind))
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r, replicas=REPLICAS)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, "norm-dropout", r, 2, REPLICAS, kind=block) as engine:
        engine.start(None)
        assert train(engine, 0, STEPS) == expected
        save(engine, tmp_path, STEPS)
    assert_same_state(tmp_path, reference.trained_modules())


def test_microbatches_of_unequal_weight_count_by_it_on_two_replicas(
    four_workers: list[Worker], tmp_path: Path
) -> None:
    r = rule("adam", 4)
    reference = Reference(NETWORKS["mlp"], IGNORING, r, replicas=REPLICAS)
    reference.settle_loss(*Noise().batch(0))
    expected = train(reference, 0, 5)
    with pipeline(four_workers, "mlp", r, 2, REPLICAS, loss=IGNORING) as engine:
        engine.start(None)
        assert train(engine, 0, 5) == expected
        save(engine, tmp_path, 5)
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize("network", ["norm-dropout", "batch-norm"])
@pytest.mark.parametrize("head", ["coordinator", "block"])
def test_four_replicas_give_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, network: str, head: HeadPlace
) -> None:
    """More than two: the sum of their gradients has an order."""
    r, heads = rule("sgd", 4), int(head == "block")
    reference = Reference(NETWORKS[network], LOSS, r, replicas=4, heads=heads)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, network, r, 1, 4, head=head) as engine:
        engine.start(None)
        assert train(engine, 0, STEPS) == expected
        save(engine, tmp_path, STEPS)
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_checkpoint_of_two_replicas_continues_on_any_grid(
    four_workers: list[Worker], tmp_path: Path, staleness: int
) -> None:
    """In delayed mode it holds gradients that are still open: summed, not one replica's."""
    r = rule("adam", 2, staleness=staleness)
    with pipeline(four_workers, "norm-dropout", r, 2, 2) as engine:
        engine.start(None)
        expected = train(engine, 0, 7)
        save(engine, tmp_path / "half", 7)
        expected += train(engine, 7, STEPS)
    for blocks, replicas in ((1, 2), (2, 1)):
        with pipeline(four_workers, "norm-dropout", r, blocks, replicas) as engine:
            engine.start(saved(tmp_path / "half"))
            assert train(engine, 7, STEPS) == pytest.approx(expected[7:], rel=1e-4)


def test_replicas_share_an_evaluation_and_agree_about_what_they_skip(
    four_workers: list[Worker],
) -> None:
    r = rule("sgd", 4, skip_non_finite=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2500, 64, generator=generator)
    data = TensorDataset(x, torch.randint(0, 10, (2500,), generator=generator))

    class NonFiniteNoise(Noise):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            x, target = super().batch(step)
            if step == 3:
                x[-1] = torch.inf  # of the last microbatch: the second replica's
            return x, target

    reference = Reference(NETWORKS["mlp"], LOSS, r)
    expected = [reference.train_step(step, *NonFiniteNoise().batch(step)) for step in range(STEPS)]
    with pipeline(four_workers, "mlp", r, 2, 2, NonFiniteNoise()) as engine:
        engine.start(None)
        losses: list[float] = []
        skipped = engine.train(0, STEPS, lambda _, loss: losses.append(loss))
        outputs, targets = zip(*engine.outputs(data, 600), strict=True)
        names = [row["process"] for row in engine.report()]
    assert losses == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert sorted({step for step, _ in skipped}) == [3]
    assert len(skipped) == 5  # each of four layers, once, and the head
    assert [len(part) for part in outputs] == [600] * 4 + [100]
    assert torch.equal(torch.cat(targets), data.tensors[1])
    parts = [reference.evaluate(part) for part in data.tensors[0].split(600)]
    assert torch.allclose(torch.cat(outputs), torch.cat(parts), atol=1e-4)
    replicas = [f"block {k} of replica {n}" for n in (1, 2) for k in (1, 2)]
    assert names == [*replicas, "coordinator"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        pytest.param(47, ["head 1 of replica 2"], marks=pytest.mark.ray),
        pytest.param(
            21, ["head 1 of replica 1", "block 1 of replica 2"], marks=pytest.mark.endurance
        ),
    ],
)
def test_killed_copies_come_back_with_the_same_bits(
    a_ray: None, tmp_path: Path, seed: int, expected: list[str]
) -> None:
    copies = {"blocks": 1, "heads": 1, "replicas": 2}
    settings: dict[str, Any] = {**copies, "epochs": 6, "log_every": 5}
    kills = len(expected)
    outcome = run_under_faults("digits", settings, tmp_path, kills, 0, seed, 1.0, print)
    assert [fault.victim_name for fault in outcome.faults] == expected
    assert outcome.same_weights
    assert outcome.same_losses


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": 3}, "replicas: 3 does not divide microbatches 4, which replicas share"),
        ({"replicas": 0}, "replicas: 0 must be at least 1"),
        ({"heads": 3, "replicas": 2}, "heads: 3 are more than the 2 microbatch"),
        ({"heads": 1, "resources": {"head": "block"}}, "resources.head: block is where the head"),
        (
            {
                "replicas": 2,
                "feedback": {"kind": "learned"},
                "faults": {"non_finite": "skip"},
            },
            "or one replica",
        ),
    ],
)
def test_what_does_not_go_with_replicas_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve("digits", settings)


def test_workers_are_numbered_replica_by_replica() -> None:
    grid = Grid(blocks=3, replicas=2)
    seats = [(grid.replica_of(n), grid.seat_of(n)) for n in range(1, len(grid) + 1)]
    assert seats == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    grid = Grid(blocks=2, replicas=2, heads=2)
    labels = [grid.label(n) for n in range(1, len(grid) + 1)]
    assert labels[:4] == [
        f"{name} of replica 1" for name in ("block 1", "block 2", "head 1", "head 2")
    ]
    assert labels[4] == "block 1 of replica 2"
    assert [grid.state_of(n) for n in range(1, 9)] == [1, 2, 3, 3] * 2
    chunks = list(range(7))
    shares = [grid.share(chunks, n) for n in range(1, 9)]
    assert shares == [[0, 2, 4, 6]] * 2 + [[0, 4], [2, 6]] + [[1, 3, 5]] * 2 + [[1, 5], [3]]
    assert Grid(2).label(2) == "block 2"
    assert grid.label(6) == "block 2 of replica 2"
