"""Blocks and head that share one GPU: one process's numbers, within the predicted memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import ray
import torch
from support.networks import NETWORKS, Noise, dense, rule
from support.pipelines import CUTS, LOSS, train
from torch import nn

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.memory import needs_of
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan, make_plan
from coordinator.job.user_code import own_folders
from coordinator.launch.ray_session import ray_for
from dfa_core import Head, LearningRule, Model, Reference
from dfa_tasks import BatchSource
from workers.gpu import Gpu
from workers.grid import Grid
from workers.payload import PickledPayload
from workers.placement import Placement, Worker, WorkerResources
from workers.stage import BlockKind

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


@dataclass
class Placed:
    """A pipeline and where it is."""

    engine: Pipeline
    plan: Plan
    workers: list[Worker]


@contextmanager
def on_one_gpu(
    model: Model, r: LearningRule, source: BatchSource, graphs: bool = False
) -> Iterator[Placed]:
    """Two blocks and the head, which share it."""
    x, target = source.batch(0)
    measured = make_plan(model, LOSS, r, (x, target), 1)
    samples = len(x) // r.microbatches
    kind: BlockKind = "graphed" if graphs else "plain"
    plan = Plan(measured.profile, tuple(CUTS[2]), samples, r, kind=kind)
    with ray_for(workers=2, cpus=1.0):
        placement = Placement(Grid(2), WorkerResources(gpus=0.4))
        prefetcher, head = Prefetcher(source, len(x), r.microbatches), Head(model, LOSS, r)
        head.to(GPU)
        workers, payload = placement.workers, PickledPayload.pack(model, own_folders())
        engine = Pipeline(workers, plan, payload, head, prefetcher, timeout_s=60)
        try:
            engine.start(None)
            yield Placed(engine, plan, workers)
        finally:
            engine.close()
            prefetcher.close()
            placement.release()


@pytest.mark.parametrize(
    ("network", "graphs"),
    [
        ("mlp", False),
        ("batch-norm", False),
        ("conv", False),
        ("several-tensors", False),
        ("several-tensors", True),
        ("batch-norm", True),
    ],
)
def test_two_blocks_that_share_a_gpu_train_as_one_process_does(network: str, graphs: bool) -> None:
    r, model = rule("adam", microbatches=2), NETWORKS[network]
    reference = Reference(model, LOSS, r)
    reference.to(GPU)
    expected = [
        reference.train_step(step, *(tensor.to(GPU) for tensor in Noise().batch(step)))
        for step in range(20)
    ]
    with on_one_gpu(model, r, Noise(), graphs) as placed:
        assert {worker.gpu for worker in placed.workers} == {gpu_of_all()}
        assert train(placed.engine, 0, 20) == pytest.approx(expected, rel=1e-4)


def test_a_needs_of_about_the_predicted_memory() -> None:
    r = rule("adam", microbatches=4)
    model = Model((dense(64, 4096), *(dense(4096, 4096),) * 3), partial(nn.Linear, 4096, 10))
    with on_one_gpu(model, r, Noise()) as placed:
        train(placed.engine, 0, 8)
        peaks = ray.get([worker.actor.peak_memory_mb.remote() for worker in placed.workers])
    for need, peak in zip(needs_of(placed.plan), peaks, strict=True):
        assert 0.95 * need.bytes < 1e6 * peak < 1.5 * need.bytes + 1e8


def gpu_of_all() -> Gpu:
    found = torch.cuda.get_device_properties(0)
    return Gpu(str(found.uuid), float(found.total_memory))
