"""Plans a run: measures the layers one at a time and cuts them into blocks."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dfa_core import LearningRule, Model, ModelProfile, partition, profile, split
from dfa_core.head import Loss
from workers.loop import Wiring


@dataclass(frozen=True)
class Plan:
    """The measured model and which layers each block hosts: ranges (first, last + 1)."""

    profile: ModelProfile
    ranges: tuple[tuple[int, int], ...]
    samples: int
    microbatches: int
    staleness: int = 0

    def wiring(self, block: int) -> Wiring:
        """Return where block k of 1..K stands in the pipeline."""
        first, _ = self.ranges[block - 1]
        return Wiring(
            block=block,
            blocks=len(self.ranges),
            microbatches=self.microbatches,
            staleness=self.staleness,
            samples=self.samples,
            arriving=self.profile.between[first],
            error=self.profile.error,
        )

    def held(self) -> list[str]:
        """Return each block's layers for people: `0-3`, or `4`."""
        return [str(a) if b - a == 1 else f"{a}-{b - 1}" for a, b in self.ranges]

    def table(self) -> list[dict[str, Any]]:
        """Return a row a layer: layer, features, parameters, cost_ms (a microbatch), block."""
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
    model: Model, loss: Loss, rule: LearningRule, batch: tuple[Tensor, Tensor], blocks: int
) -> Plan:
    """Measure every layer on the first microbatch of a batch, and balance the blocks.

    Raises JobError when layers, head, loss, feedback and data do not fit together.
    """
    x, target = (split(tensor, rule.microbatches)[0] for tensor in batch)
    measured = profile(model, loss, rule, x, target)
    ranges = partition([layer.seconds for layer in measured.layers], blocks)
    return Plan(measured, tuple(ranges), len(x), rule.microbatches, rule.staleness)
