"""Predicts steps for any number of blocks and replicas, before any machine is rented.

Every schedule may take any number of microbatches that divides the batch, up to a multiple of its
workers. errorcast has its head in the last block's worker, or, where that is faster, in workers of
its own or in the coordinator, which then is a worker too: each pipeline has as many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from dfa_core.balance.memory import head_need, memory_needs
from dfa_speedup.peers import EAGER_PIPELINES
from dfa_speedup.simulation.costs import total
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.sending import sending
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Configuration, Workload

Ranges = list[tuple[int, int]]
_MOST = 4  # microbatches a block that are tried
_MOSTLY = 0.75  # of a step, which the busiest process must compute to be what sets its time


@dataclass(frozen=True)
class Prediction:
    """A shape: seconds a step at errorcast's best M, and what it takes.

    efficiency: the share of the workers' time that is work, if each had its own core or GPU.
    set_by: the process whose computing, or whose messages, take most of a step; `waits` if none do.
    speedups: errorcast over each of torch's schedules at its own best, on as many workers; None
    where the schedule cannot run.
    memory_mb: of the largest worker; bytes_per_step: of all workers.
    """

    shape: Shape
    microbatches: int
    seconds: float
    efficiency: float
    set_by: str
    speedups: dict[str, float | None]
    memory_mb: float
    bytes_per_step: float


def predict_scaling(predictor: Predictor, blocks: int, replicas: int) -> Prediction | str:
    """Return the prediction for K blocks of R replicas, or why there is none.

    The head has workers of its own where these are worth their share of the time; then the
    schedules have as many stages more in each replica.
    """
    layers, batch = len(predictor.workload.model.layers), predictor.workload.batch_size
    if blocks > layers:
        return f"the model has {layers} layers"
    if batch % replicas:
        return f"{replicas} replicas do not divide the batch of {batch}"
    shapes = [Shape(blocks, replicas, "block"), Shape(blocks, replicas)]
    shapes += [Shape(blocks, replicas, "workers", h) for h in _heads_for(predictor, blocks)]
    tried = _tried(predictor, shapes)
    shape, m = min(tried, key=lambda one: tried[one] * one[0].workers)
    stages = shape.in_replica + (shape.head == "coordinator")
    return _prediction(predictor, shape, m, tried[shape, m], [(stages, replicas)])


def predict_workers(
    predictor: Predictor,
    workers: int,
    one_pipeline: bool = False,
    microbatches: int | None = None,
) -> Prediction | str:
    """Return the prediction for the fastest shape of N workers, or why there is none.

    one_pipeline: only shapes of one replica, with the head in one of the workers.
    microbatches: errorcast's, of a batch, over all replicas; None tries all that divide the batch.

    Each schedule has its own fastest K and R of as many workers.
    """
    layers, batch = len(predictor.workload.model.layers), predictor.workload.batch_size
    shared = 1 if predictor.workload.uncut or one_pipeline else batch  # among the replicas
    shapes = [Shape(k, r, "block") for k, r in _grids(workers, layers, shared)]
    shapes += [Shape(k, r) for k, r in _grids(workers - 1, layers, shared) if not one_pipeline]
    for in_replica, r in _grids(workers, workers, shared):
        shapes += [s for s in _with_heads(predictor, in_replica, r) if s.heads <= batch // r]
    if not shapes:
        return (
            f"no K of at most {layers} layers times an R that divides the batch of {shared} makes "
            f"{workers} workers"
        )
    tried = _tried(predictor, shapes, microbatches)
    if not tried:
        few = f"a batch of {batch}" if microbatches is None else f"{microbatches} microbatch(es)"
        return f"{few} cannot be divided among {workers} workers"
    shape, m = min(tried, key=tried.__getitem__)
    stages = _grids(workers, layers + 1, shared)  # the head may be a stage
    return _prediction(predictor, shape, m, tried[shape, m], stages)


def _with_heads(predictor: Predictor, in_replica: int, replicas: int) -> list[Shape]:
    """Return the shapes of these workers in a replica whose heads have about a block's load."""
    layers, a_block = len(predictor.workload.model.layers), _head_in_layers(predictor)
    even = in_replica * a_block / (1 + a_block)
    least = in_replica - layers
    heads = {max(1, least, floor(even)), max(1, least, ceil(even))}
    return [
        Shape(blocks, replicas, "workers", h)
        for h in sorted(heads)
        for blocks in (in_replica - h,)
        if blocks > 0 and h <= 2 * ceil(a_block * blocks)  # more would wait
    ]


def _heads_for(predictor: Predictor, blocks: int) -> list[int]:
    """Return the numbers of heads that have about as much to do as each of K blocks."""
    even = _head_in_layers(predictor) * blocks
    return sorted({max(1, floor(even)), max(1, ceil(even))})


def _head_in_layers(predictor: Predictor) -> float:
    """Return how long the head takes, as a share of the time of all layers."""
    work = total(predictor.costs.layers)
    return predictor.costs.head.update / (work.forward + work.update)


def _grids(workers: int, most_blocks: int, batch: int) -> list[tuple[int, int]]:
    """Return all (K, R) with K times R workers."""
    blocks = range(1, min(workers, most_blocks) + 1)
    return [(k, workers // k) for k in blocks if workers % k == 0 and batch % (workers // k) == 0]


def _cuts(workload: Workload, in_replica: int, batch: int) -> list[int]:
    """Return the numbers of microbatches to try; batch: of a replica."""
    most = 1 if workload.uncut else _MOST * in_replica
    return [m for m in range(1, most + 1) if batch % m == 0]


def _share(microbatches: int, replicas: int) -> list[int]:
    """Return a replica's number of microbatches, or none where they cannot be shared."""
    return [microbatches // replicas] if microbatches % replicas == 0 else []


def _tried(
    predictor: Predictor, shapes: Sequence[Shape], microbatches: int | None = None
) -> dict[tuple[Shape, int], float]:
    """Return the seconds of a step of errorcast, for each shape and number of microbatches.

    microbatches: of a batch, over all replicas; None tries all that divide the batch.
    """
    whole = predictor.workload.batch_size
    return {
        (shape, m): predictor.errorcast(shape, batch // m, m)
        for shape in shapes
        for batch in (whole // shape.replicas,)
        for m in (
            _cuts(predictor.workload, shape.in_replica, batch)
            if microbatches is None
            else _share(microbatches, shape.replicas)
        )
        if m >= shape.heads
    }


def _prediction(
    predictor: Predictor, shape: Shape, m: int, seconds: float, stages: Sequence[tuple[int, int]]
) -> Prediction:
    """Return the prediction of a shape; stages: (K, R) that the schedules may have."""
    workload, replicas, in_block = predictor.workload, shape.replicas, shape.head == "block"
    heads = shape.copies_of_head
    speedups: dict[str, float | None] = {}
    for name in EAGER_PIPELINES:
        times = [
            predictor.pipeline(Configuration(name, cut, v), k, workload.batch_size // r // cut, r)
            for k, r in stages
            for cut in _cuts(workload, k, workload.batch_size // r)
            for v in EAGER_PIPELINES[name].virtual_stages(len(workload.model.layers), k)
        ]
        speedups[name] = min((t / seconds for t in times if t is not None), default=None)
    batch = workload.batch_size // replicas
    costs = predictor.costs.scaled(batch)
    work = total([*costs.layers, replace(costs.head, forward=0.0)])
    busy = replicas * (work.forward + work.update + work.optimizer)
    busy += (heads - replicas) * costs.head.optimizer
    ranges, profile, rule = predictor.ranges(shape, m), workload.profile, workload.rule
    needs = memory_needs(profile, ranges, rule, batch // m, m, with_head=in_block)
    needs += [head_need(profile, rule, batch // m)] * shape.heads
    return Prediction(
        shape,
        m,
        seconds,
        busy / (seconds * shape.workers),
        _set_by(predictor, shape, ranges, seconds),
        speedups,
        max(need.bytes for need in needs) / 1e6,
        _bytes_per_step(workload, ranges, shape),
    )


def _set_by(predictor: Predictor, shape: Shape, ranges: Ranges, seconds: float) -> str:
    """Name what sets the time of a step: what has most to do or to send, or the waits."""
    costs = predictor.costs.scaled(predictor.workload.batch_size // shape.replicas)
    head = costs.head.update + costs.head.optimizer
    loads = {}
    for k, (first, last) in enumerate(ranges, 1):
        block = total(costs.layers[first:last])
        loads[f"block {k}"] = block.forward + block.update + block.optimizer
    if shape.head == "block":
        loads[f"block {shape.blocks} + head"] = loads.pop(f"block {shape.blocks}") + head
    else:
        share = shape.replicas / shape.copies_of_head
        loads["head"] = share * costs.head.update + costs.head.optimizer
    loads |= sending(predictor.workload, shape, ranges, predictor.link)
    most = max(loads, key=loads.__getitem__)
    return most if loads[most] > _MOSTLY * seconds else "waits"


def _bytes_per_step(workload: Workload, ranges: Ranges, shape: Shape) -> float:
    """Inputs and activations once, the error to every other block, the gradients of the copies."""
    profile, error = workload.profile, workload.error_bytes
    sending = ranges[:-1] if shape.head == "block" else ranges
    passed = profile.between[0].bytes + sum(profile.between[b].message.bytes for _, b in sending)
    of_layers = (shape.replicas - 1) * (profile.parameters - profile.head_parameters)
    of_heads = (shape.copies_of_head - 1) * profile.head_parameters
    summed = 2 * 4 * (of_layers + of_heads)
    return workload.batch_size * (passed + len(sending) * error) + summed
