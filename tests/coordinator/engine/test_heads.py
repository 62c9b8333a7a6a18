"""The head in the last block's worker, or in workers of its own: the bits of the reference."""

from functools import partial
from pathlib import Path

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
from support.pairwise import combinations
from support.pipelines import (
    IGNORING,
    LOSS,
    STEPS,
    assert_like,
    assert_same_state,
    pipeline,
    save,
    train,
)
from torch import Tensor
from torch.utils.data import TensorDataset

from dfa_core import ErrorFormat, FeedbackSpec, JobError, NonFiniteLoss, Reference
from dfa_core.scoring import PartMean, PartMeter
from dfa_tasks import accuracy
from workers.placement import Worker


@pytest.mark.parametrize(
    ("network", "optimizer", "microbatches", "blocks"),
    combinations([*NETWORKS], ["sgd", "adam"], (1, 4), (1, 3)),
)
def test_a_head_in_the_last_block_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    optimizer: str,
    microbatches: int,
    blocks: int,
) -> None:
    r = rule(optimizer, microbatches)
    with pipeline(four_workers, network, r, blocks, head="block") as engine:
        assert_like(partial(Reference, NETWORKS[network], LOSS, r), engine, tmp_path, 8)


def fit(_network: str, blocks: int, heads: int, replicas: int) -> bool:
    """Return whether four workers are enough."""
    return (blocks + heads) * replicas <= 4


@pytest.mark.parametrize(
    ("network", "blocks", "heads", "replicas"),
    combinations(
        ["norm-dropout", "several-tensors", "batch-norm"],
        (1, 2, 3),
        (1, 2, 3),
        (1, 2),
        allowed=fit,
    ),
)
def test_heads_in_workers_of_their_own_give_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    blocks: int,
    heads: int,
    replicas: int,
) -> None:
    r = rule("adam", 8)  # which three heads do not divide

    told = partial(Reference, NETWORKS[network], LOSS, r, replicas=replicas, heads=heads)
    with pipeline(four_workers, network, r, blocks, replicas, heads=heads) as engine:
        assert_like(told, engine, tmp_path, 7)


def noisy(output: Tensor, target: Tensor) -> Tensor:
    """Return a mean that breaks ties by a draw."""
    tied = output.round() + 0.1 * torch.rand_like(output)
    return (tied.argmax(-1) == target).float().mean()


MEASURED = {"accuracy": accuracy, "noisy": noisy, "largest": lambda output, _: output.max()}


@pytest.mark.parametrize(
    ("blocks", "heads", "replicas"), [(1, 0, 1), (2, 0, 1), (2, 0, 2), (2, 2, 1), (1, 1, 2)]
)
def test_means_are_measured_where_the_head_is(
    four_workers: list[Worker], blocks: int, heads: int, replicas: int
) -> None:
    r, (x, target) = rule("adam", 4), Noise().batch(0)
    data = TensorDataset(x, target)
    with pipeline(
        four_workers, "norm-dropout", r, blocks, replicas,
        loss=IGNORING, head="block", heads=heads, metrics=MEASURED,
    ) as engine:  # fmt: skip
        engine.start(None)
        train(engine, 0, 2)
        sent = engine.report()[-1]["bytes_sent"]
        found = list(engine.reports(data, 5, MEASURED, 3))
        outputs = list(engine.outputs(data, 5))
        train(engine, 2, 3)
        assert engine.report()[-1]["bytes_sent"] > sent
    meter = PartMeter(engine.loss, MEASURED, 3)
    expected = [meter.report(*part) for part in outputs]
    assert len(found) == 5
    for name in ("loss", *MEASURED):
        ours, theirs = ([part[name] for part in parts] for parts in (found, expected))
        assert [(p.value, p.weight) for p in ours] == [(p.value, p.weight) for p in theirs]
        means = [PartMean(is_loss=name == "loss") for _ in (ours, theirs)]
        for mean, parts in zip(means, (ours, theirs), strict=True):
            for part in parts:
                mean.add(part)
        assert means[0].needs_all == means[1].needs_all == (name in ("noisy", "largest"))
        assert means[0].value() == means[1].value()


def test_a_metric_that_fails_where_the_head_is_says_so(four_workers: list[Worker]) -> None:
    x, target = Noise().batch(0)
    failing = {"failing": lambda output, target: output[: len(target) - 1] - target}
    with pipeline(four_workers, "mlp", rule("sgd", 4), 2, head="block", metrics=failing) as engine:
        engine.start(None)
        with pytest.raises(JobError, match="the metric 'failing' fails on outputs of"):
            list(engine.reports(TensorDataset(x, target), 5, failing, 0))


@pytest.mark.parametrize(("blocks", "heads"), [(1, 0), (3, 0), (2, 1)])
def test_what_travels_in_fewer_bytes_gives_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, blocks: int, heads: int
) -> None:
    feedback = FeedbackSpec(sent_as=ErrorFormat("int8", 0.3))
    r = rule("adam", 2, feedback=feedback, activations="bf16")
    reference = Reference(NETWORKS["several-tensors"], LOSS, r)
    expected = train(reference, 0, STEPS)
    with pipeline(four_workers, "several-tensors", r, blocks, head="block", heads=heads) as engine:
        engine.start(None)
        assert train(engine, 0, STEPS) == expected
        save(engine, tmp_path, STEPS)
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize("heads", [0, 2])
def test_microbatches_of_unequal_weight_count_by_it(
    four_workers: list[Worker], tmp_path: Path, heads: int
) -> None:
    r = rule("adam", 8)
    reference = Reference(NETWORKS["norm-dropout"], IGNORING, r, heads=heads)
    reference.settle_loss(*Noise().batch(0))
    expected = train(reference, 0, 5)
    with pipeline(
        four_workers, "norm-dropout", r, 2, loss=IGNORING, head="block", heads=heads
    ) as engine:
        engine.start(None)
        assert train(engine, 0, 5) == expected
        save(engine, tmp_path, 5)
    assert_same_state(tmp_path, reference.trained_modules())


@pytest.mark.parametrize("heads", [0, 2])
def test_a_recovery_restores_the_head_where_it_is(
    four_workers: list[Worker], tmp_path: Path, heads: int
) -> None:
    r = rule("adam", 2)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r.cut_at((7,)), heads=heads)
    expected = train(reference, 0, STEPS)
    with pipeline(
        four_workers, "norm-dropout", r, 2, snapshot_steps=1, head="block", heads=heads
    ) as engine:
        engine.start(None)
        losses = train(engine, 0, 7)
        engine.set_cuts((7,))
        losses += train(engine, 7, 9) + train(engine, 9, 12)
        assert losses == expected[:12]
        step = engine.recover((), None)
        assert step > 0
        assert train(engine, step, STEPS) == expected[step:]
        save(engine, tmp_path, STEPS)
    assert_same_state(tmp_path, reference.trained_modules())


def nowhere_finite(output: Tensor, target: Tensor) -> Tensor:
    """Return a mean that is NaN once the weights have moved far enough."""
    return LOSS(output, target) + 0 * (0.325 - output.detach().max()).sqrt()


@pytest.mark.parametrize("heads", [0, 2])
def test_a_loss_that_is_not_finite_is_said_where_it_was(
    four_workers: list[Worker], heads: int
) -> None:
    r = rule("sgd", 2)
    reference = Reference(NETWORKS["mlp"], nowhere_finite, r, heads=heads)
    with pytest.raises(NonFiniteLoss) as said:
        train(reference, 0, STEPS)
    with pipeline(
        four_workers, "mlp", r, 2, loss=nowhere_finite, head="block", heads=heads
    ) as engine:
        engine.start(None)
        with pytest.raises(NonFiniteLoss) as found:
            train(engine, 0, STEPS)
        assert str(found.value) == str(said.value)
        assert engine.diagnosis() is not None


class NonFiniteNoise(Noise):
    """Whose last sample of step 3 is infinite: of the last microbatch, which the last head gets."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        x, target = super().batch(step)
        if step == 3:
            x[-1] = torch.inf
        return x, target


def test_all_heads_skip_what_one_of_them_finds_not_finite(
    four_workers: list[Worker], tmp_path: Path
) -> None:
    r = rule("adam", 4, skip_non_finite=True)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r, heads=2)
    expected = [reference.train_step(step, *NonFiniteNoise().batch(step)) for step in range(STEPS)]
    with pipeline(four_workers, "norm-dropout", r, 2, source=NonFiniteNoise(), heads=2) as engine:
        engine.start(None)
        losses: list[float] = []
        skipped = engine.train(0, STEPS, lambda _, loss: losses.append(loss))
        save(engine, tmp_path, STEPS)
    assert losses == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    assert [step for step, _ in skipped] == [3] * 5  # each of four layers, once, and the head
    assert_same_state(tmp_path, reference.trained_modules())
