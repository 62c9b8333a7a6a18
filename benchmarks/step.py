"""How close a step comes to its limit: `python -m benchmarks.step`.

For each size it prints the step time of the real pipeline (blocks and coordinator in Ray actors),
the busy share of each block, and (compute of the slower block alone) / (step), with "alone" in two
senses. "no messages": the same blocks compute at once, with nothing to wait for; what is missing to
1 is what the pipeline costs. "idle machine": one block computes and all else rests; what is missing
also holds what two busy cores take from one another. The sides alternate in short rounds, because a
machine's speed drifts: times are medians over all steps, a ratio is the median of the rounds' own.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import ray
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from coordinator.engine.pipeline import Pipeline
from coordinator.engine.plan import Plan, make_plan
from coordinator.engine.prefetcher import Prefetcher
from coordinator.experiments.workload import OneBatch
from coordinator.launch.ray_session import ray_for
from dfa_core import (
    Block,
    FeedbackSpec,
    Forward,
    Head,
    LearningRule,
    Model,
    OptimizerSpec,
    Step,
    Update,
    block_actions,
    build_layers,
)
from dfa_core.feedback.rules import FeedbackKind
from workers.grid import Grid
from workers.payload import PickledPayload
from workers.placement import Placement, WorkerResources

CLASSES = 10


@dataclass(frozen=True)
class Size:
    """A tanh MLP of equal layers, and how its batch is cut."""

    width: int
    batch: int
    microbatches: int
    layers: int = 8
    blocks: int = 2
    replicas: int = 1


SIZES = (Size(1024, 512, 4), Size(2048, 1024, 4))


def tanh_layer(width: int) -> nn.Module:
    """Return one linear map and its activation."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh())


def parts(
    size: Size, optimizer: str = "sgd", feedback: FeedbackKind = "random"
) -> tuple[Model, LearningRule, OneBatch]:
    """Return what both sides train."""
    model = Model(
        (partial(tanh_layer, size.width),) * size.layers, partial(nn.Linear, size.width, CLASSES)
    )
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
        model, rule, data = parts(size, optimizer, feedback)
        plan = make_plan(model, nn.functional.cross_entropy, rule, data.batch(0), size.blocks)
        each = size.layers // size.blocks  # equal layers: an even cut, whatever was measured
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
        """Return the seconds of each step, the first of the segment left out."""
        marks: list[float] = []
        last = self.step + steps + 1
        self.pipeline.train(self.step, last, lambda *_: marks.append(perf_counter()))
        self.step = last
        return [b - a for a, b in pairwise(marks)]

    def segment(self, steps: int) -> float:
        """Train one segment of so many steps; return its seconds."""
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


class Alone:
    """One block with nobody to wait for."""

    def start(self, size: Size, first: int, last: int) -> None:
        """Build the block."""
        torch.set_num_threads(1)
        model, self.rule, _ = parts(size)
        self.size = size
        self.block = Block(build_layers(model, first, last, self.rule))
        samples = size.batch // size.microbatches
        self.inputs = [torch.randn(samples, size.width) for _ in range(size.microbatches)]
        self.errors = [torch.randn(samples, CLASSES) / size.batch for _ in self.inputs]
        self.seconds(2)

    def seconds(self, steps: int) -> list[float]:
        """Return the seconds of each step: forwards, updates and optimizer, as scheduled."""
        torch.set_num_threads(1)
        found = []
        for step in range(steps):
            start = perf_counter()
            for action in block_actions(self.size.blocks, self.size.microbatches, step, step + 1):
                match action:
                    case Forward(_, m):
                        self.block.forward(self.inputs[m], step, m)
                    case Update(_, m):
                        self.block.update(self.errors[m], step, m)
                    case Step():
                        self.block.step(step)
            found.append(perf_counter() - start)
        return found


@dataclass(frozen=True)
class Round:
    """Median seconds of one round: of a step, and of the slower block's compute in two senses."""

    step: float
    no_messages: float
    idle_machine: float


def measure(size: Size, rounds: int, steps: int) -> tuple[list[Round], list[float]]:
    """Measure one size in alternating rounds; return them and the busy share of each block."""
    coordinator: Any = ray.remote(num_cpus=0)(Coordinator).remote()
    ranges = ray.get(coordinator.start.remote(size))
    alone: list[Any] = [ray.remote(num_cpus=0)(Alone).remote() for _ in ranges]
    ray.get([a.start.remote(size, *r) for a, r in zip(alone, ranges, strict=True)])
    found = []
    for _ in range(rounds):
        together = ray.get(coordinator.seconds.remote(steps))
        at_once = ray.get([block.seconds.remote(steps) for block in alone])
        one_by_one = [ray.get(block.seconds.remote(steps)) for block in alone]
        found.append(
            Round(median(together), max(map(median, at_once)), max(map(median, one_by_one)))
        )
    busy = ray.get(coordinator.busy.remote())
    ray.get(coordinator.stop.remote())
    for actor in (coordinator, *alone):
        ray.kill(actor)
    return found, busy


def row(size: Size, rounds: list[Round], busy: list[float]) -> list[str]:
    """Return a size's figures as the table shows them."""
    return [
        str(size.width),
        str(size.batch),
        str(size.microbatches),
        f"{1e3 * median(r.step for r in rounds):.1f}",
        " ".join(f"{share:.1%}" for share in busy),
        f"{1e3 * median(r.no_messages for r in rounds):.1f}",
        f"{median(r.no_messages / r.step for r in rounds):.3f}",
        f"{1e3 * median(r.idle_machine for r in rounds):.1f}",
        f"{median(r.idle_machine / r.step for r in rounds):.3f}",
    ]


def main() -> None:
    """Measure the sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="alternations of the two sides")
    parser.add_argument("--steps", type=int, default=4, help="steps of each side a round")
    arguments = parser.parse_args()
    table = Table(title="8 tanh layers, 2 blocks, 1 thread a worker; medians")
    columns = ("width", "batch", "M", "step, ms", "busy", "no messages, ms", "ratio")
    for name in (*columns, "idle machine, ms", "ratio"):
        table.add_column(name, justify="right")
    with ray_for(workers=2, cpus=1.0):
        for size in SIZES:
            rounds, busy = measure(size, arguments.rounds, arguments.steps)
            table.add_row(*row(size, rounds, busy))
    Console().print(table)


if __name__ == "__main__":
    main()
