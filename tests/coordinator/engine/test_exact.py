"""Blocks in Ray actors give the bits of the single-process reference, on any number of blocks."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.networks import NETWORKS, OPTIMIZERS, Noise, rule
from support.pairwise import combinations
from support.pipelines import (
    IGNORING,
    LOSS,
    STEPS,
    assert_same_state,
    learns_or_waits,
    pipeline,
    save,
    saved,
    train,
)
from torch import Tensor
from torch.utils.data import TensorDataset

from dfa_core import ErrorFormat, FeedbackSpec, Reference
from dfa_core.feedback.error_format import ErrorKind
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.loss import Loss
from workers.placement import Worker


@pytest.mark.parametrize(
    ("network", "optimizer", "microbatches", "blocks"),
    combinations([*NETWORKS], [*OPTIMIZERS], (1, 2, 4), (1, 2, 3, 4)),
)
def test_any_number_of_blocks_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    optimizer: str,
    microbatches: int,
    blocks: int,
) -> None:
    r = rule(optimizer, microbatches)
    reference = Reference(NETWORKS[network], LOSS, r)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, network, r, blocks) as engine:
        engine.start(None)
        losses = train(engine, 0, 7) + train(engine, 7, STEPS)  # two segments
        save(engine, tmp_path, STEPS)
    assert losses == expected
    assert_same_state(tmp_path, reference.trained_modules())


def masked_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return a mean over some samples that only a measurement shows."""
    kept = target > 3
    return LOSS(output[kept], target[kept])


@pytest.mark.parametrize("loss", [IGNORING, masked_loss])
def test_microbatches_of_unequal_weight_count_by_it(
    four_workers: list[Worker], tmp_path: Path, loss: Loss
) -> None:
    r = rule("adam", 8)
    reference = Reference(NETWORKS["norm-dropout"], loss, r)
    reference.settle_loss(*Noise().batch(0))
    expected = train(reference, 0, 5)
    with pipeline(four_workers, "norm-dropout", r, 2, loss=loss) as engine:
        engine.start(None)
        assert train(engine, 0, 5) == expected
        save(engine, tmp_path, 5)
    assert_same_state(tmp_path, reference.trained_modules())


END = STEPS + 4  # past the end of the first epoch


@pytest.mark.parametrize(
    ("learning", "steps"),
    [
        ({}, (0, 1, 7, 19, 20, 23)),
        ({"method": "bp"}, (0, 1, 19)),
        ({"method": "bp", "staleness": 1}, (0, 1, 20)),
        pytest.param({}, range(END), marks=pytest.mark.endurance),
        pytest.param({"method": "bp"}, range(END), marks=pytest.mark.endurance),
        pytest.param({"method": "bp", "staleness": 1}, range(END), marks=pytest.mark.endurance),
    ],
)
def test_a_resume_at_any_step_on_other_blocks_gives_the_same_bits(
    four_workers: list[Worker], tmp_path: Path, learning: dict[str, Any], steps: Sequence[int]
) -> None:
    """One run saves at each of these steps; from each, another number of blocks continues."""
    r = rule("adam", 2, **learning)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    expected = train(reference, 0, END)
    with pipeline(four_workers, "norm-dropout", r, 2) as engine:
        engine.start(None)
        for step, after in itertools.pairwise([*steps, END]):
            save(engine, tmp_path / f"{step}", step)
            train(engine, step, after)
    for step, blocks in zip(steps, itertools.cycle((3, 1, 4)), strict=False):
        with pipeline(four_workers, "norm-dropout", r, blocks) as engine:
            assert engine.start(saved(tmp_path / f"{step}")) == step
            assert train(engine, step, END) == expected[step:]
            again = tmp_path / f"{step}-end"
            save(engine, again, END)
        assert_same_state(again, reference.trained_modules())


def test_a_rate_cut_between_segments_gives_the_references_bits_also_after_a_recovery(
    four_workers: list[Worker], tmp_path: Path
) -> None:
    r = rule("adam", 2)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r.cut_at((7, 12)))
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, "norm-dropout", r, 2, snapshot_steps=1) as engine:
        engine.start(None)
        losses = train(engine, 0, 7)
        engine.set_cuts((7,))
        losses += train(engine, 7, 12)
        engine.set_cuts((7, 12))
        losses += train(engine, 12, 14)
        assert losses == expected[:14]
        step = engine.recover((), None)
        assert step > 0
        assert train(engine, step, STEPS) == expected[step:]
        save(engine, tmp_path, STEPS)
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize(
    ("kind", "cut", "blocks"),
    combinations(
        ["sign", "target", "learned", "local", "forward"],
        [(1, 0), (4, 0), (1, 2)],
        (1, 2, 4),
        allowed=learns_or_waits,
    ),
)
def test_other_feedback_rules_give_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    kind: FeedbackKind,
    cut: tuple[int, int],
    blocks: int,
) -> None:
    """cut: microbatches and staleness."""
    microbatches, staleness = cut
    r = rule("adam", microbatches, staleness=staleness, feedback=FeedbackSpec(kind=kind))
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, "norm-dropout", r, blocks) as engine:
        engine.start(None)
        losses = train(engine, 0, 7)
        save(engine, tmp_path / "half", 7)
    with pipeline(four_workers, "norm-dropout", r, 3) as engine:
        engine.start(saved(tmp_path / "half"))
        losses += train(engine, 7, STEPS)
        save(engine, tmp_path / "whole", STEPS)
        x, target = Noise().batch(0)
        outputs = list(engine.outputs(TensorDataset(x, target), len(x)))
    assert losses == expected
    assert torch.equal(outputs[0][0], reference.evaluate(x))
    assert_same_state(tmp_path / "whole", reference.trained_modules())


@pytest.mark.parametrize("kind", ["bf16", "int8", "ternary", "topk"])
def test_an_error_that_travels_in_fewer_bytes_gives_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, kind: ErrorKind
) -> None:
    r = rule("adam", 2, feedback=FeedbackSpec(sent_as=ErrorFormat(kind, 0.3)))
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    expected = train(reference, 0, STEPS)
    assert expected != train(Reference(NETWORKS["norm-dropout"], LOSS, rule("adam", 2)), 0, STEPS)
    for blocks, replicas in ((1, 1), (3, 1), (2, 2)):
        with pipeline(four_workers, "norm-dropout", r, blocks, replicas) as engine:
            engine.start(None)
            losses = train(engine, 0, STEPS)
            save(engine, tmp_path / f"{blocks}", STEPS)
        assert losses == (expected if replicas == 1 else pytest.approx(expected, rel=1e-4))
    assert_same_state(tmp_path / "3", reference.trained_modules())


@pytest.mark.parametrize("network", ["norm-dropout", "several-tensors", "conv"])
def test_activations_that_travel_as_bf16_give_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, network: str
) -> None:
    r = rule("adam", 2, activations="bf16")
    reference = Reference(NETWORKS[network], LOSS, r)
    expected = train(reference, 0, STEPS)
    assert expected != train(Reference(NETWORKS[network], LOSS, rule("adam", 2)), 0, STEPS)
    for blocks in (1, 2, 4):
        with pipeline(four_workers, network, r, blocks) as engine:
            engine.start(None)
            losses = train(engine, 0, STEPS)
            save(engine, tmp_path / f"{blocks}", STEPS)
            x, target = Noise().batch(0)
            outputs = list(engine.outputs(TensorDataset(x, target), 8))
        assert losses == expected
        assert_same_state(tmp_path / f"{blocks}", reference.trained_modules())
        for output, part in zip(outputs, x.split(8), strict=True):
            assert torch.equal(output[0], reference.evaluate(part.clone()))


@pytest.mark.parametrize(
    ("staleness", "network", "cut"),
    combinations((1, 2, 4), [("mlp", 1), ("norm-dropout", 2), ("conv", 1)], [(2, 7), (4, 1)]),
)
def test_delayed_mode_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    staleness: int,
    network: tuple[str, int],
    cut: tuple[int, int],
) -> None:
    """On any number of blocks, cut into any segments, resumed on others: the reference's bits.

    network: its name and the microbatches. cut: blocks, and the step after which one is less.
    """
    (name, microbatches), (blocks, step) = network, cut
    r = rule("adam", microbatches, staleness=staleness)
    reference = Reference(NETWORKS[name], LOSS, r)
    expected = train(reference, 0, STEPS)
    exact = Reference(NETWORKS[name], LOSS, rule("adam", microbatches))
    assert train(exact, 0, STEPS) != expected  # another algorithm
    with pipeline(four_workers, name, r, blocks) as engine:
        engine.start(None)
        losses = train(engine, 0, step)
        save(engine, tmp_path / "half", step)
    with pipeline(four_workers, name, r, blocks - 1) as engine:
        engine.start(saved(tmp_path / "half"))
        losses += train(engine, step, STEPS)
        save(engine, tmp_path / "whole", STEPS)
    assert losses == expected
    assert_same_state(tmp_path / "whole", reference.trained_modules())


def test_on_one_node_the_ranks_listen_on_loopback_alone(four_workers: list[Worker]) -> None:
    with pipeline(four_workers, "mlp", rule(), 2) as engine:
        engine.start(None)
        ends = engine._workers.groups[0].blocks._connections._ends.values()
        assert len(ends) >= 2  # to either block
        assert {host for host, _ in itertools.chain(*ends)} == {"127.0.0.1"}


def test_evaluation_through_the_pipeline_gives_the_references_outputs(
    four_workers: list[Worker],
) -> None:
    r = rule("sgd", 2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2500, 64, generator=generator)
    target = torch.randint(0, 10, (2500,), generator=generator)
    data = TensorDataset(x, target)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    with pipeline(four_workers, "norm-dropout", r, 3) as engine:
        engine.start(None)
        outputs, targets = zip(*engine.outputs(data, 1024), strict=True)
        losses = train(engine, 0, 2)  # and training continues after it
    assert [len(part) for part in outputs] == [1024, 1024, 452]
    assert torch.equal(torch.cat(targets), target)
    parts = [reference.evaluate(part.clone()) for part in x.split(1024)]
    assert torch.equal(torch.cat(outputs), torch.cat(parts))
    assert losses == train(reference, 0, 2)
