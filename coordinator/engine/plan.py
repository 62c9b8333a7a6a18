"""Plans a run: measures the layers one at a time and cuts them into blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from torch import Tensor

from dfa_core import (
    ActivationSpec,
    JobError,
    LearningRule,
    Model,
    ModelProfile,
    TensorSpec,
    in_flight,
    profile,
    split,
)
from dfa_core.balance.cutting import cut_layers
from dfa_core.balance.trial import Trial
from dfa_core.exact_schedule import ExactSchedule, first_waiting, waiting_at
from dfa_core.loss import Loss
from dfa_core.schedule import away
from workers.grid import Grid, HeadPlace
from workers.stage import BlockKind, StageContext

UNBOUNDED = 1_000_000  # microbatches, where nothing is known of the memory


@dataclass(frozen=True)
class Forms:
    """The forms of what flows in an evaluation: between the layers, and out of the head."""

    between: tuple[ActivationSpec, ...]
    output: TensorSpec


@dataclass(frozen=True)
class Plan:
    """The measured model and which layers each block hosts: ranges (first, last + 1).

    samples: of a microbatch. The rule's microbatches are those of the whole batch, which the
    replicas share.
    evaluated: for each form of a sample that is evaluated, the forms of what flows then.
    head: where the head and the loss are computed. heads: the workers of each replica that host a
        copy of the head and nothing else, if it is there.
    most_waiting: microbatches that may wait for their error at a block, as memory allows.
    kind: how blocks compute.
    readers: processes with which the first block of each replica reads its share of the data; 0:
        the coordinator reads.
    schedule: of backpropagation.
    """

    profile: ModelProfile
    ranges: tuple[tuple[int, int], ...]
    samples: int
    rule: LearningRule
    replicas: int = 1
    evaluated: Mapping[TensorSpec, Forms] = field(default_factory=dict)
    head: HeadPlace = "coordinator"
    heads: int = 0
    most_waiting: int = UNBOUNDED
    kind: BlockKind = "plain"
    readers: int = 0
    schedule: ExactSchedule = "1f1b"

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a step in each replica."""
        return self.rule.microbatches // self.replicas

    @property
    def least_waiting(self) -> int:
        """Return how many microbatches wait for their error, also where memory is short.

        With `bp` it is the number at the first block, whatever M is; later ones let fewer wait.
        """
        blocks = len(self.ranges)
        if self.rule.method == "bp":
            return first_waiting(self.schedule, blocks, self.head != "block")
        return in_flight(blocks, self.microbatches, self.rule.staleness)

    @property
    def flops(self) -> int:
        """Return the floating-point operations of a step, 0 where they are not known."""
        return self.profile.flops * self.rule.microbatches

    @property
    def tokens(self) -> int:
        """Return the tokens of a sample, 0 where a sample is no text whose tokens are predicted."""
        target = self.profile.target
        is_text = len(target.shape) == 1 and not target.dtype.is_floating_point
        return target.shape[0] if is_text and self.rule.sample_dims == 2 else 0

    def waiting(self, hop_s: float = 0.0) -> int:
        """Return how many microbatches may wait for their error at a block.

        hop_s: seconds that a microbatch's message takes to the next process.
        """
        blocks, measured = len(self.ranges), self.profile
        of_block = sum(layer.seconds for layer in measured.layers) / blocks
        turns = self.replicas if self.head == "coordinator" else 1
        share = self.samples / measured.samples
        time = away(blocks, hop_s, turns * share * measured.head_seconds, share * of_block)
        wanted = in_flight(blocks, self.microbatches, self.rule.staleness, time)
        if self.rule.method == "bp":  # the head's time is in the schedule
            wanted = self.least_waiting + (ceil(time) if hop_s else 0)
        return min(wanted, max(self.most_waiting, self.least_waiting))

    @property
    def waiting_of_blocks(self) -> list[int]:
        """Return how many microbatches wait for their error at each block, at least."""
        blocks = range(1, len(self.ranges) + 1)
        if not self.profile.learns:
            return [1 for _ in blocks]
        if self.rule.method != "bp":
            return [self.least_waiting for _ in blocks]
        most = self.microbatches * (self.rule.staleness + 1)
        first = first_waiting("1f1b", len(blocks), self.head != "block")  # no schedule has less
        return [min(most, waiting_at(k, first)) for k in blocks]

    @property
    def grid(self) -> Grid:
        """Return how the workers are numbered."""
        return Grid(len(self.ranges), self.replicas, self.heads)

    @property
    def hosts_of_head(self) -> list[int]:
        """Return the workers that host the head, in the order in which parts go to them."""
        grid = self.grid
        seats = [*range(grid.blocks + 1, grid.in_replica + 1)] or [grid.blocks]
        starts = [r * grid.in_replica for r in range(grid.replicas)]
        return [start + seat for seat in seats for start in starts]

    def layers(self, worker: int) -> tuple[int, int]:
        """Return which layers (first, last + 1) a worker hosts; none where it has the head."""
        seat, end = self.grid.seat_of(worker), len(self.profile.layers)
        return self.ranges[seat - 1] if seat <= len(self.ranges) else (end, end)

    def stage(self, worker: int) -> StageContext:
        """Return what a worker hosts, and its place in the pipeline."""
        first, last = self.layers(worker)
        return StageContext(
            first=first,
            last=last,
            grid=self.grid,
            number=worker,
            rule=self.rule,
            samples=self.samples,
            arriving=self.profile.between[first],
            leaving=self.profile.between[last],
            error=self.profile.error,
            target=self.profile.target,
            output=self.profile.output,
            head=self.head,
            kind=self.kind,
            readers=self.readers,
            schedule=self.schedule,
            blocks_learn=self.profile.learns,
        )

    def ends(self, worker: int, forms: Forms) -> tuple[ActivationSpec, ActivationSpec, TensorSpec]:
        """Return what enters a worker's block, what it sends on, and the head's output."""
        first, last = self.layers(worker)
        return forms.between[first], forms.between[last], forms.output

    def evaluated_as(self, form: TensorSpec) -> Forms:
        """Return the forms of what flows in an evaluation of samples of this form.

        Raises JobError for a form that nothing was tried with before the first step.
        """
        profile = self.profile.without_tangents(self.rule)  # they travel in training alone
        trained = Forms(profile.between, profile.output)
        known = {trained.between[0].tensors[0]: trained, **self.evaluated}
        if form not in known:
            raise JobError(
                f"its samples are {form}, those tried before training "
                f"{' or '.join(map(str, known))}; samples must keep their form"
            )
        return known[form]

    def on(self, speeds: Sequence[float] | None) -> "Plan":
        """Return the plan for blocks on workers of these speeds; None: of equal speed."""
        with_head = self.head == "block"
        ranges = cut_layers(
            self.profile, self.rule, len(self.ranges), self.replicas, with_head, speeds
        )
        return replace(self, ranges=tuple(ranges))

    def with_head_in(self, place: HeadPlace) -> "Plan":
        """Return the plan with the head there, cut again for workers of equal speed."""
        return replace(self, head=place, heads=0).on(None)

    def with_heads(self, heads: int) -> "Plan":
        """Return the plan with this many workers in each replica for the head alone."""
        return replace(self, head="workers", heads=heads).on(None)

    def held(self) -> list[tuple[str, str]]:
        """Return each worker and what it hosts, to be shown: `block 1` and `0-3`, `4` or `head`."""
        each = [str(a) if b - a == 1 else f"{a}-{b - 1}" for a, b in self.ranges]
        each[-1] += ", head" if self.head == "block" else ""
        each += ["head"] * self.heads
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
    ranges = cut_layers(measured, rule, blocks, replicas)
    evaluated = {
        trial.form: Forms(tuple(trial.between), TensorSpec.of(trial.output))
        for trial in trials
        if not trial.trains
    }
    return Plan(measured, tuple(ranges), len(xs[0]), rule, replicas, evaluated)
