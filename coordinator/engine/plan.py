"""Plans a run: measures the layers one at a time and cuts them into blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dfa_core import LearningRule, Model, ModelProfile, partition, profile, split
from dfa_core.head import Loss
from workers.grid import Grid
from workers.loop import StageContext


@dataclass(frozen=True)
class Plan:
    """The measured model and which layers each block hosts: ranges (first, last + 1).

    samples: of a microbatch. The rule's microbatches are those of the whole batch, which the
    replicas share.
    """

    profile: ModelProfile
    ranges: tuple[tuple[int, int], ...]
    samples: int
    rule: LearningRule
    replicas: int = 1

    @property
    def grid(self) -> Grid:
        """Return how the workers are numbered."""
        return Grid(len(self.ranges), self.replicas)

    def layers(self, worker: int) -> tuple[int, int]:
        """Return which layers (first, last + 1) a worker hosts."""
        return self.ranges[self.grid.block_of(worker) - 1]

    def stage(self, worker: int) -> StageContext:
        """Return what a worker hosts, and its place in the pipeline."""
        first, last = self.layers(worker)
        return StageContext(
            first=first,
            last=last,
            block=self.grid.block_of(worker),
            blocks=len(self.ranges),
            replica=self.grid.replica_of(worker),
            replicas=self.replicas,
            rule=self.rule,
            samples=self.samples,
            arriving=self.profile.between[first],
            leaving=self.profile.between[last],
            error=self.profile.error,
        )

    def on(self, speeds: Sequence[float] | None) -> "Plan":
        """Return the plan for blocks on workers of these speeds; None: of equal speed."""
        costs = [layer.seconds for layer in self.profile.layers]
        return replace(self, ranges=tuple(partition(costs, len(self.ranges), speeds)))

    def held(self) -> list[tuple[str, str]]:
        """Return each worker and its layers, to be shown: `block 1` and `0-3`, or `4`."""
        each = [str(a) if b - a == 1 else f"{a}-{b - 1}" for a, b in self.ranges]
        workers = range(1, len(self.grid) + 1)
        return list(zip(map(self.grid.label, workers), each * self.replicas, strict=True))

    def table(self) -> list[dict[str, Any]]:
        """Return one row per layer: layer, features, parameters, cost_ms (a microbatch), block."""
        return [
            {
                "layer": layer.label,
                "features": layer.features,
                "parameters": layer.parameters,
                "cost_ms": round(layer.seconds * 1e3, 3),
                "block": 1 + next(b for b, (_, last) in enumerate(self.ranges) if i < last),
            }
            for i, layer in enumerate(self.profile.layers)
        ]


def make_plan(
    model: Model,
    loss: Loss,
    rule: LearningRule,
    batch: tuple[Tensor, Tensor],
    blocks: int,
    replicas: int = 1,
) -> Plan:
    """Measure every layer on the first microbatch of a batch, and balance the blocks.

    Raises JobError when layers, head, loss, feedback and data do not fit together.
    """
    x, target = (split(tensor, rule.microbatches)[0] for tensor in batch)
    measured = profile(model, loss, rule, x, target)
    ranges = partition([layer.seconds for layer in measured.layers], blocks)
    return Plan(measured, tuple(ranges), len(x), rule, replicas)
