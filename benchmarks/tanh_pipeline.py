"""The pipeline that the benchmarks measure: tanh layers on Ray actors, with a coordinator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import torch
from ray import cloudpickle
from torch import nn

import benchmarks
from benchmarks.tanh_network import CLASSES, tanh_network
from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan, make_plan
from coordinator.launch.ray_session import ray_for
from coordinator.planning.workload import OneBatch
from dfa_core import FeedbackSpec, Head, LearningRule, Model, OptimizerSpec
from dfa_core.feedback.rules import FeedbackKind
from workers.grid import Grid
from workers.payload import PickledPayload
from workers.placement import Placement, WorkerResources


@dataclass(frozen=True)
class Size:
    """A tanh MLP of equal layers, and how its batch and its layers are cut."""

    width: int
    batch: int
    microbatches: int
    layers: int = 8
    blocks: int = 2
    replicas: int = 1


SIZES = (Size(1024, 512, 4), Size(2048, 1024, 4))


def training(
    size: Size, optimizer: str = "sgd", feedback: FeedbackKind = "random"
) -> tuple[Model, LearningRule, OneBatch]:
    """Return what every side trains: model, rule and data."""
    model = tanh_network(size.width, size.layers)
    rule = LearningRule(
        microbatches=size.microbatches,
        optimizer=OptimizerSpec(optimizer, 1e-3),
        feedback=FeedbackSpec(kind=feedback),
    )
    target = torch.randint(0, CLASSES, (size.batch,))
    return model, rule, OneBatch(torch.randn(size.batch, size.width), target)


class Coordinator:
    """Rank 0 in an actor of its own, as in a real run."""

    def start(
        self,
        size: Size,
        optimizer: str = "sgd",
        snapshot_steps: int = 0,
        feedback: FeedbackKind = "random",
    ) -> list[tuple[int, int]]:
        """Place and join everything; return the layers of each block."""
        torch.set_num_threads(1)
        model, rule, data = training(size, optimizer, feedback)
        plan = make_plan(model, nn.functional.cross_entropy, rule, data.batch(0), size.blocks)
        each = size.layers // size.blocks  # equal layers are cut evenly, whatever was measured
        ranges = tuple((i * each, (i + 1) * each) for i in range(size.blocks))
        plan = Plan(plan.profile, ranges, plan.samples, plan.rule, size.replicas)
        self.placement = Placement(Grid(size.blocks, size.replicas), WorkerResources())
        head = Head(model, nn.functional.cross_entropy, rule)
        prefetcher = Prefetcher(data, size.batch, size.microbatches)
        payload = PickledPayload.pack(model)
        workers = self.placement.workers
        self.pipeline = Pipeline(
            workers,
            plan,
            payload,
            head,
            prefetcher,
            timeout_s=60,
            snapshot_steps=snapshot_steps,
        )
        self.pipeline.start(None)
        self.step = 0
        self.segment(snapshot_steps or 3)
        return list(ranges)

    def seconds(self, steps: int) -> list[float]:
        """Return the seconds of each step but the first, which fills the pipeline."""
        marks: list[float] = []
        last = self.step + steps + 1
        self.pipeline.train(self.step, last, lambda *_: marks.append(perf_counter()))
        self.step = last
        return [b - a for a, b in pairwise(marks)]

    def segment(self, steps: int) -> float:
        """Train one segment of `steps` steps; return its seconds."""
        start, last = perf_counter(), self.step + steps
        self.pipeline.train(self.step, last, lambda *_: None)
        self.step = last
        return perf_counter() - start

    def busy(self) -> list[float]:
        """Return the busy share of each block."""
        return [float(row["busy"]) for row in self.pipeline.report()[:-1]]

    def stop(self) -> None:
        """Give the workers back."""
        self.pipeline.close()
        self.placement.release()


@contextmanager
def ray_of(workers: int) -> Iterator[None]:
    """Run Ray with a core for each of these workers."""
    cloudpickle.register_pickle_by_value(benchmarks)  # Ray's processes do not find this folder
    with ray_for(workers=workers, cpus=1.0):
        yield
