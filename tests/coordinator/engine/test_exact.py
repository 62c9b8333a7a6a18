"""Blocks in Ray actors give the bits of the single-process reference, on any number of blocks."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ray import cloudpickle
from support import networks
from support.networks import NETWORKS, OPTIMIZERS, SAMPLES, Noise, rule
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan, make_plan
from coordinator.engine.prefetcher import Prefetcher
from coordinator.runs.checkpoint import Checkpoint, newest_whole, write_checkpoint
from dfa_core import ErrorFormat, FeedbackSpec, Head, LearningRule, Reference
from dfa_core.feedback.error_format import ErrorKind
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.trained import TrainedModule
from dfa_tasks import BatchSource
from workers.payload import PickledPayload
from workers.placement import Worker
from workers.storage import LocalFolder

LOSS = nn.functional.cross_entropy
STEPS = 20
CUTS = {
    1: [(0, 4)],
    2: [(0, 3), (3, 4)],
    3: [(0, 1), (1, 3), (3, 4)],
    4: [(0, 1), (1, 2), (2, 3), (3, 4)],
}
cloudpickle.register_pickle_by_value(networks)  # the workers do not have the tests on their path


@contextmanager
def pipeline(
    workers: list[Worker],
    network: str,
    r: LearningRule,
    blocks: int,
    replicas: int = 1,
    source: BatchSource | None = None,
    snapshot_steps: int = 0,
) -> Iterator[Pipeline]:
    """A pipeline with a fixed cut, so that a test does not depend on what the machine measured."""
    model = NETWORKS[network]
    measured = make_plan(model, LOSS, r, Noise().batch(0), 1)
    samples = SAMPLES // r.microbatches
    plan = Plan(measured.profile, tuple(CUTS[blocks]), samples, r, replicas)
    prefetcher, head = Prefetcher(source or Noise(), SAMPLES, r.microbatches), Head(model, LOSS, r)
    crew = workers[: blocks * replicas]
    packed = PickledPayload.pack(model)
    made = Pipeline(crew, plan, packed, head, prefetcher, 30, snapshot_steps=snapshot_steps)
    try:
        yield made
    finally:
        made.close()
        prefetcher.close()


def train(engine: Pipeline | Reference, first: int, last: int) -> list[float]:
    losses: list[float] = []
    if isinstance(engine, Pipeline):
        engine.train(first, last, lambda _, loss: losses.append(loss))
    else:
        losses += [engine.train_step(step, *Noise().batch(step)) for step in range(first, last)]
    return losses


def save(engine: Pipeline, folder: Path, step: int) -> None:
    write_checkpoint(LocalFolder(folder), step, {}, (), engine.save, keep=100)


def saved(folder: Path) -> Checkpoint:
    found, damages = newest_whole(LocalFolder(folder))
    assert not damages
    assert found is not None
    return found


def assert_same_state(folder: Path, parts: Iterator[TrainedModule]) -> None:
    """Every saved tensor and scalar, weights and optimizer state, equals the part's own."""
    checkpoint = saved(folder)
    for part in parts:
        tensors, scalars = checkpoint.parts.read(part.name)
        ours, our_scalars = part.state()
        assert tensors.keys() == ours.keys()
        assert any(key.startswith("optimizer/") for key in ours) == bool(part.parameters)
        for key, tensor in tensors.items():
            assert torch.equal(tensor, ours[key]), f"{part.name} {key}"
        assert scalars == our_scalars


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_any_number_of_blocks_gives_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, network: str, optimizer: str
) -> None:
    for microbatches in (1, 2, 4):
        r = rule(optimizer, microbatches)
        reference = Reference(NETWORKS[network], LOSS, r)
        expected = train(reference, 0, STEPS)
        for blocks in (1, 2, 3, 4):
            folder = tmp_path / f"{microbatches}-{blocks}"
            with pipeline(four_workers, network, r, blocks) as engine:
                engine.start(None)
                losses = train(engine, 0, 7) + train(engine, 7, STEPS)  # two segments
                save(engine, folder, STEPS)
            assert losses == expected
            assert_same_state(folder, reference.trained_modules())


def test_a_resume_at_any_step_on_other_blocks_gives_the_same_bits(
    four_workers: list[Worker], tmp_path: Path
) -> None:
    """One run saves at every step; from each, a run on another number of blocks goes to the end."""
    r = rule("adam", 2)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    end = STEPS + 4  # past the end of the first epoch
    expected = train(reference, 0, end)
    with pipeline(four_workers, "norm-dropout", r, 2) as engine:
        engine.start(None)
        for step in range(end):
            save(engine, tmp_path / f"{step}", step)
            train(engine, step, step + 1)
    for step, blocks in zip(range(end), itertools.cycle((3, 1, 4)), strict=False):
        with pipeline(four_workers, "norm-dropout", r, blocks) as engine:
            assert engine.start(saved(tmp_path / f"{step}")) == step
            assert train(engine, step, end) == expected[step:]
            again = tmp_path / f"{step}-end"
            save(engine, again, end)
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


@pytest.mark.parametrize("kind", ["sign", "target", "learned"])
def test_other_feedback_rules_give_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, kind: FeedbackKind
) -> None:
    cuts = ((1, 0), (4, 0)) if kind == "learned" else ((1, 0), (4, 0), (1, 2))
    for microbatches, staleness in cuts:
        feedback = FeedbackSpec(kind=kind)
        r = rule("adam", microbatches, staleness=staleness, feedback=feedback)
        reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
        expected = train(reference, 0, STEPS)
        for blocks in (1, 2, 4):
            folder = tmp_path / f"{microbatches}-{staleness}-{blocks}"
            with pipeline(four_workers, "norm-dropout", r, blocks) as engine:
                engine.start(None)
                losses = train(engine, 0, 7)
                save(engine, folder / "half", 7)
            with pipeline(four_workers, "norm-dropout", r, 3) as engine:
                engine.start(saved(folder / "half"))
                losses += train(engine, 7, STEPS)
                save(engine, folder / "whole", STEPS)
            assert losses == expected
            assert_same_state(folder / "whole", reference.trained_modules())


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


@pytest.mark.parametrize("staleness", [1, 2, 4])
def test_delayed_mode_gives_the_references_bits(
    four_workers: list[Worker], tmp_path: Path, staleness: int
) -> None:
    """On any number of blocks, cut into any segments, resumed on others: the reference's bits."""
    for network, microbatches in (("mlp", 1), ("norm-dropout", 2), ("conv", 1)):
        r = rule("adam", microbatches, staleness=staleness)
        reference = Reference(NETWORKS[network], LOSS, r)
        expected = train(reference, 0, STEPS)
        exact = Reference(NETWORKS[network], LOSS, rule("adam", microbatches))
        assert train(exact, 0, STEPS) != expected  # another algorithm
        for blocks, cut in ((2, 7), (4, 1)):
            half, whole = (tmp_path / f"{network}-{blocks}-{part}" for part in ("half", "whole"))
            with pipeline(four_workers, network, r, blocks) as engine:
                engine.start(None)
                losses = train(engine, 0, cut)
                save(engine, half, cut)
            with pipeline(four_workers, network, r, blocks - 1) as engine:
                engine.start(saved(half))
                losses += train(engine, cut, STEPS)
                save(engine, whole, STEPS)
            assert losses == expected
            assert_same_state(whole, reference.trained_modules())


def test_on_one_node_the_ranks_listen_on_loopback_alone(four_workers: list[Worker]) -> None:
    with pipeline(four_workers, "mlp", rule(), 2) as engine:
        engine.start(None)
        ends = engine._workers.groups[0]._sockets.values()
        assert len(ends) >= 2  # to either block
        assert all(own.startswith("('127.0.0.1'") for own, _ in ends)


def test_evaluation_through_the_pipeline_gives_the_references_outputs(
    four_workers: list[Worker],
) -> None:
    r = rule("sgd", 2)
    x, target = torch.randn(2500, 64), torch.randint(0, 10, (2500,))
    data = TensorDataset(x, target)
    reference = Reference(NETWORKS["norm-dropout"], LOSS, r)
    with pipeline(four_workers, "norm-dropout", r, 3) as engine:
        engine.start(None)
        outputs, targets = zip(*engine.outputs(data, 1024), strict=True)
        losses = train(engine, 0, 2)  # and training goes on behind it
    assert [len(part) for part in outputs] == [1024, 1024, 452]
    assert torch.equal(torch.cat(targets), target)
    parts = [reference.evaluate(part.clone()) for part in x.split(1024)]
    assert torch.equal(torch.cat(outputs), torch.cat(parts))
    assert losses == train(reference, 0, 2)
