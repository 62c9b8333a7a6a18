"""What a job will be before it is trained: its layers, what each worker holds, and what travels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.memory import needs_of
from coordinator.engine.plan import Plan, make_plan
from coordinator.engine.trials import DataTrials
from coordinator.job.resolve import Job
from dfa_core import ActivationSpec, TensorSpec
from dfa_tasks.source import as_source


@dataclass(frozen=True)
class LayerRow:
    """A layer, or the head.

    output: shape of what it gives for one sample. flops: floating-point operations of a step.
    matrices: number of entries of feedback matrices that training changes; they are no parameters.
    block: the worker of the layer, from 1; None for the head, where the coordinator computes it.
    """

    label: str
    output: str
    parameters: int
    trained: int
    flops: int
    block: int | None
    matrices: int = 0


@dataclass(frozen=True)
class WorkerRow:
    """A worker of the first replica: its share of a step's operations, and bytes.

    kept: of weights, gradients and optimizer state, at least; waiting: of activations that wait
    for their error, at least; sent: in a step, to all others.
    """

    name: str
    share: float
    kept: float
    waiting: float
    sent: float


@dataclass(frozen=True)
class Overview:
    """A job's layers, the head last, and the workers of its first replica.

    samples: of a step. tokens: of a sample, 0 where it is no text.
    """

    layers: Sequence[LayerRow]
    workers: Sequence[WorkerRow]
    samples: int
    tokens: int

    @property
    def parameters(self) -> int:
        """Return the number of parameters."""
        return sum(row.parameters for row in self.layers)

    @property
    def trained(self) -> int:
        """Return how many of them are trained."""
        return sum(row.trained for row in self.layers)

    @property
    def matrices(self) -> int:
        """Return the number of entries of all feedback matrices that training changes."""
        return sum(row.matrices for row in self.layers)

    @property
    def flops(self) -> int:
        """Return the floating-point operations of a step."""
        return sum(row.flops for row in self.layers)


def overview(job: Job) -> Overview:
    """Run one microbatch through the layers, one after another, and plan the job's workers.

    A head that the job leaves to the planner is counted in the last block.

    Raises JobError where the job cannot run as given.
    """
    settings = job.settings
    splits = job.splits()
    source = as_source(splits.train, settings.batch_size, settings.seed)
    prefetcher = Prefetcher(source, settings.batch_size, settings.microbatches)
    try:
        trials = DataTrials(job.task, splits, prefetcher, settings.seed)
    finally:
        prefetcher.close()
    trials.check_cut(job.model)
    rule, grid = job.rule(source.steps_per_epoch), job.grid
    loss, batch = job.task.weighted_loss, trials.batch
    plan = make_plan(job.model, loss, rule, batch, grid.blocks, grid.replicas, trials.each)
    place = settings.resources.head
    if grid.heads:
        plan = plan.with_heads(grid.heads)
    elif place != "auto" or grid.replicas == 1:
        plan = plan.with_head_in("block" if place == "auto" else place)
    return _of(replace(plan, kind=settings.resources.kind), settings.batch_size)


def _of(plan: Plan, samples: int) -> Overview:
    measured, of_head = plan.profile, _host_of_head(plan)
    layers = [
        LayerRow(
            label=layer.label,
            output=_shape(measured.between[layer.index + 1]),
            parameters=layer.parameters,
            trained=layer.trained,
            flops=layer.flops * plan.rule.microbatches,
            block=1 + next(b for b, (_, end) in enumerate(plan.ranges) if layer.index < end),
            matrices=layer.matrices,
        )
        for layer in measured.layers
    ]
    head = LayerRow(
        label=measured.head_label,
        output=_each(measured.output),
        parameters=measured.head_parameters,
        trained=measured.head_trained,
        flops=measured.head_flops * plan.rule.microbatches,
        block=of_head,
    )
    rows = [*layers, head]
    return Overview(rows, _workers(plan, rows, samples), samples, plan.tokens)


def _host_of_head(plan: Plan) -> int | None:
    return plan.hosts_of_head[0] if plan.head != "coordinator" else None


def _workers(plan: Plan, rows: Sequence[LayerRow], samples: int) -> list[WorkerRow]:
    """Return a row for each worker of a replica."""
    total, in_replica = sum(row.flops for row in rows), samples / plan.replicas
    found = []
    for number, need in enumerate(needs_of(plan), start=1):
        own = float(sum(row.flops for row in rows[:-1] if row.block == number))
        if plan.head != "coordinator" and number in plan.hosts_of_head[:: plan.replicas]:
            own += rows[-1].flops / max(1, plan.heads)
        share = own / total if total else 0.0
        sent = in_replica * _bytes_sent(plan, number)
        found.append(WorkerRow(plan.grid.label(number), share, need.kept, need.activations, sent))
    return found


def _bytes_sent(plan: Plan, number: int) -> float:
    """Return the bytes that a worker sends for a sample: its output, the head's error."""
    blocks, measured = len(plan.ranges), plan.profile
    if number > blocks:  # a head alone
        return measured.error.bytes * blocks / max(1, plan.heads)
    last = number == blocks
    with_head = last and plan.head == "block"
    output = 0 if with_head else measured.between[plan.ranges[number - 1][1]].bytes
    back = measured.between[plan.ranges[number - 1][0]].bytes if plan.rule.method == "bp" else 0
    error = measured.error.bytes * (blocks - 1) if with_head and plan.rule.method != "bp" else 0
    return output + error + (back if number > 1 else 0)


def _shape(spec: ActivationSpec) -> str:
    return " + ".join(_each(one) for one in spec.tensors)


def _each(spec: TensorSpec) -> str:
    return " x ".join(map(str, spec.shape)) or "1"
