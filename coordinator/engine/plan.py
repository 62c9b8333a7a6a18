"""Plans a run: measures the layers one at a time and cuts them into blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dfa_core import (
    ActivationSpec,
    JobError,
    LearningRule,
    Model,
    ModelProfile,
    TensorSpec,
    partition,
    profile,
    split,
)
from dfa_core.balance.trial import Trial
from dfa_core.loss import Loss
from workers.grid import Grid
from workers.stage import StageContext


@dataclass(frozen=True)
class Plan:
    """The measured model and which layers each block hosts: ranges (first, last + 1).

    samples: of a microbatch. The rule's microbatches are those of the whole batch, which the
    replicas share.
    evaluated: for each form of a sample that is evaluated, the tensors between the layers then.
    """

    profile: ModelProfile
    ranges: tuple[tuple[int, int], ...]
    samples: int
    rule: LearningRule
    replicas: int = 1
    evaluated: Mapping[TensorSpec, tuple[ActivationSpec, ...]] = field(default_factory=dict)

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

    def ends(
        self, worker: int, between: Sequence[ActivationSpec]
    ) -> tuple[ActivationSpec, ActivationSpec]:
        """Return what enters a worker's block and what it sends on, of the tensors between layers.

        between: as in ModelProfile.
        """
        first, last = self.layers(worker)
        return between[first], between[last]

    def evaluated_as(self, form: TensorSpec) -> tuple[ActivationSpec, ...]:
        """Return the tensors between the layers in an evaluation; form: of a sample.

        Raises JobError for a form that nothing was tried with before the first step.
        """
        trained = self.profile.between
        known = {trained[0].tensors[0]: trained, **self.evaluated}
        if form not in known:
            raise JobError(
                f"its samples are {form}, those tried before training "
                f"{' or '.join(map(str, known))}; samples must keep their form"
            )
        return known[form]

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
    trials: Sequence[Trial] = (),
) -> Plan:
    """Measure every layer on the first microbatch of a batch, and balance the blocks.

    trials: samples of all parts of the data, which run through the layers too.

    Raises JobError when layers, head, loss, feedback and data do not fit together.
    """
    xs, targets = (split(tensor, rule.microbatches) for tensor in batch)
    measured = profile(model, loss, rule, xs[0], targets[0], targets, trials)
    ranges = partition([layer.seconds for layer in measured.layers], blocks)
    evaluated = {trial.form: tuple(trial.between) for trial in trials if not trial.trains}
    return Plan(measured, tuple(ranges), len(xs[0]), rule, replicas, evaluated)
