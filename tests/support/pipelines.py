"""Pipelines on real workers, to be compared with the single-process reference."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from support.networks import NETWORKS, SAMPLES, Noise
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan, make_plan
from coordinator.job.user_code import own_folders
from coordinator.runs.checkpoint import Checkpoint, newest_checkpoint, write_checkpoint
from coordinator.runs.state import RunState
from dfa_core import Head, LearningRule, Model, Reference
from dfa_core.exact_schedule import ExactSchedule
from dfa_core.feedback.rules import FEEDBACK_RULES, FeedbackKind
from dfa_core.loss import Loss
from dfa_core.scoring import Metrics
from dfa_core.trained import TrainedModule
from dfa_tasks import BatchSource
from dfa_tasks.shares import Shares
from workers.grid import HeadPlace
from workers.payload import PickledPayload
from workers.placement import Worker
from workers.stage import BlockKind
from workers.storage import LocalFolder

LOSS = nn.functional.cross_entropy
IGNORING = nn.CrossEntropyLoss(ignore_index=3)  # of the ten classes of Noise
STEPS = 20
CUTS = {
    1: [(0, 4)],
    2: [(0, 3), (3, 4)],
    3: [(0, 1), (1, 3), (3, 4)],
    4: [(0, 1), (1, 2), (2, 3), (3, 4)],
}


def learns_or_waits(kind: FeedbackKind, cut: tuple[int, int], _blocks: int) -> bool:
    """Delayed mode needs matrices that do not change; cut: microbatches and staleness."""
    return not FEEDBACK_RULES[kind].matrix_changes or cut[1] == 0


@contextmanager
def pipeline(
    workers: list[Worker],
    network: str | Model,
    r: LearningRule,
    blocks: int | Sequence[tuple[int, int]],
    replicas: int = 1,
    source: BatchSource | None = None,
    snapshot_steps: int = 0,
    loss: Loss = LOSS,
    head: HeadPlace = "coordinator",
    heads: int = 0,
    metrics: Metrics | None = None,
    kind: BlockKind = "plain",
    readers: int = 0,
    schedule: ExactSchedule = "1f1b",
) -> Iterator[Pipeline]:
    """A pipeline with a fixed cut, so that a test does not depend on what the machine measured.

    network: a model, or a name in NETWORKS; blocks: which layers each hosts, or their number.
    heads: workers of each replica for the head alone. metrics: are measured where the head is.
    readers: processes with which the first block of each replica reads its share of the source.
    """
    head = "workers" if heads else head
    model = NETWORKS[network] if isinstance(network, str) else network
    measured = make_plan(model, loss, r, Noise().batch(0), 1)
    samples, cut = SAMPLES // r.microbatches, CUTS[blocks] if isinstance(blocks, int) else blocks
    plan = Plan(
        measured.profile, tuple(cut), samples, r, replicas,
        head=head, heads=heads, kind=kind, readers=readers, schedule=schedule,
    )  # fmt: skip
    prefetcher = Prefetcher(source or Noise(), SAMPLES, r.microbatches)
    settled = measured.profile.loss
    elsewhere = PickledPayload.pack(settled, own_folders())
    place = Head(model, settled, r) if head == "coordinator" else elsewhere
    crew = workers[: len(plan.grid)]
    assert len(crew) == len(plan.grid)
    packed = PickledPayload.pack(model, own_folders())
    measured_there = None if metrics is None else PickledPayload.pack(metrics, own_folders())
    shares = Shares(source or Noise(), SAMPLES, r.microbatches, replicas) if readers else None
    made = Pipeline(
        crew, plan, packed, place, prefetcher, 30, snapshot_steps=snapshot_steps,
        metrics=measured_there,
        data=shares and PickledPayload.pack(shares, own_folders()),
    )  # fmt: skip
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
    write_checkpoint(LocalFolder(folder), RunState(step), {}, engine.save, keep=100)


def saved(folder: Path) -> Checkpoint:
    found, damages = newest_checkpoint(LocalFolder(folder))
    assert not damages
    assert found is not None
    return found


def assert_same_state(folder: Path, parts: Iterable[TrainedModule]) -> None:
    """Every saved tensor and scalar, weights and optimizer state, equals the part's own."""
    checkpoint = saved(folder)
    for part in parts:
        tensors, scalars = checkpoint.modules.read(part.name)
        ours, our_scalars = part.state()
        assert tensors.keys() == ours.keys()
        kept = any(key.startswith("optimizer/") for key in ours)
        assert kept == bool(part.parameters) or part.rule.method == "shallow"
        for key, tensor in tensors.items():
            assert torch.equal(tensor, ours[key]), f"{part.name} {key}"
        assert scalars == our_scalars


def assert_like(
    told: Callable[[], Reference], engine: Pipeline, folder: Path, at_once: int
) -> None:
    """It trains, saves, evaluates and trains on with the bits of a reference."""
    reference = told()
    expected = train(reference, 0, STEPS)
    engine.start(None)
    losses = train(engine, 0, 7) + train(engine, 7, STEPS)
    save(engine, folder, STEPS)
    x, target = Noise().batch(0)
    outputs, targets = zip(*engine.outputs(TensorDataset(x, target), at_once), strict=True)
    losses += train(engine, STEPS, STEPS + 1)
    assert losses == expected + train(reference, STEPS, STEPS + 1)
    fresh = told()
    train(fresh, 0, STEPS)
    assert_same_state(folder, fresh.trained_modules())
    assert torch.equal(torch.cat(targets), target)
    for output, part in zip(outputs, x.split(at_once), strict=True):
        assert torch.equal(output, fresh.evaluate(part.clone()))
