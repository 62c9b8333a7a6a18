"""Predicts steps for any number of blocks and replicas, before any machine is rented.

Every schedule may take any number of microbatches that divides the batch, up to a multiple of its
blocks. errorcast has its head in the last block's worker, or in the coordinator where that is
faster: then that is a worker too, and each pipeline gets one more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dfa_core.balance.memory import memory_needs
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.costs import total
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.workload import Workload
from workers.grid import HeadPlace

Ranges = list[tuple[int, int]]
_PLACES: tuple[HeadPlace, ...] = ("block", "coordinator")
_MOST = 4  # microbatches a block that are tried
_MOSTLY = 0.75  # of a step, which the busiest process must compute to be what sets its time


@dataclass(frozen=True)
class Shape:
    """K blocks of R replicas, and where the head is."""

    blocks: int
    replicas: int
    head: HeadPlace

    @property
    def workers(self) -> int:
        """Return the number of workers; a head in the coordinator is one more."""
        return self.blocks * self.replicas + (self.head == "coordinator")


@dataclass(frozen=True)
class Prediction:
    """A shape: seconds a step at errorcast's best M, and what it takes.

    efficiency: the share of the workers' time that is work, if each had its own core or GPU.
    set_by: the process whose computing takes most of a step; `waits` if none computes so long.
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

    The head is a worker of its own where that worker is worth its share of the time; then the
    schedules have one stage more in each replica.
    """
    layers, batch = len(predictor.workload.model.layers), predictor.workload.batch_size
    if blocks > layers:
        return f"the model has {layers} layers"
    if batch % replicas:
        return f"{replicas} replicas do not divide the batch of {batch}"
    tried = _tried(predictor, [Shape(blocks, replicas, place) for place in _PLACES])
    shape, m = min(tried, key=lambda one: tried[one] * one[0].workers)
    stages = blocks + (shape.head == "coordinator")
    return _prediction(predictor, shape, m, tried[shape, m], [(stages, replicas)])


def predict_workers(predictor: Predictor, workers: int) -> Prediction | str:
    """Return the prediction for the fastest shape of N workers, or why there is none.

    Each schedule has its own fastest K and R of as many workers.
    """
    layers, batch = len(predictor.workload.model.layers), predictor.workload.batch_size
    batch = 1 if predictor.workload.uncut else batch  # which only one replica can have
    grids = {n: _grids(n, layers, batch) for n in (workers, workers - 1)}
    shapes = [Shape(k, r, "block") for k, r in grids[workers]]
    shapes += [Shape(k, r, "coordinator") for k, r in grids[workers - 1]]
    if not shapes:
        return (
            f"no K of at most {layers} layers times an R that divides the batch of {batch} makes "
            f"{workers} workers"
        )
    tried = _tried(predictor, shapes)
    shape, m = min(tried, key=tried.__getitem__)
    stages = _grids(workers, layers + 1, batch)  # the head may be a stage
    return _prediction(predictor, shape, m, tried[shape, m], stages)


def _grids(workers: int, most_blocks: int, batch: int) -> list[tuple[int, int]]:
    """Return all (K, R) with K times R workers."""
    blocks = range(1, min(workers, most_blocks) + 1)
    return [(k, workers // k) for k in blocks if workers % k == 0 and batch % (workers // k) == 0]


def _cuts(workload: Workload, blocks: int, batch: int) -> list[int]:
    """Return the numbers of microbatches to try; batch: of a replica."""
    most = 1 if workload.uncut else _MOST * blocks
    return [m for m in range(1, most + 1) if batch % m == 0]


def _tried(predictor: Predictor, shapes: Sequence[Shape]) -> dict[tuple[Shape, int], float]:
    """Return the seconds of a step of errorcast, for each shape and number of microbatches."""
    whole = predictor.workload.batch_size
    return {
        (shape, m): predictor.errorcast(
            shape.blocks, batch // m, m, shape.replicas, shape.head == "block"
        )
        for shape in shapes
        for batch in (whole // shape.replicas,)
        for m in _cuts(predictor.workload, shape.blocks, batch)
    }


def _prediction(
    predictor: Predictor, shape: Shape, m: int, seconds: float, stages: Sequence[tuple[int, int]]
) -> Prediction:
    """Return the prediction of a shape; stages: (K, R) that the schedules may have."""
    workload, replicas, in_block = predictor.workload, shape.replicas, shape.head == "block"
    speedups: dict[str, float | None] = {}
    for name in PIPELINES:
        times = [
            predictor.pipeline(name, k, workload.batch_size // r // cut, cut, r)
            for k, r in stages
            for cut in _cuts(workload, k, workload.batch_size // r)
        ]
        speedups[name] = min((t / seconds for t in times if t is not None), default=None)
    batch = workload.batch_size // replicas
    costs = predictor.costs.scaled(batch)
    work = total([*costs.layers, replace(costs.head, forward=0.0)])
    busy = replicas * (work.forward + work.update + work.optimizer)
    busy -= 0.0 if in_block else (replicas - 1) * costs.head.optimizer
    ranges = predictor.ranges(shape.blocks, in_block)
    needs = memory_needs(workload.profile, ranges, workload.rule, batch // m, m, with_head=in_block)
    return Prediction(
        shape,
        m,
        seconds,
        busy / (seconds * shape.workers),
        _set_by(predictor, shape, seconds),
        speedups,
        max(need.bytes for need in needs) / 1e6,
        _bytes_per_step(workload, ranges, replicas, not in_block),
    )


def _set_by(predictor: Predictor, shape: Shape, seconds: float) -> str:
    """Name what sets the time of a step: the process with most to do, or the waits."""
    costs = predictor.costs.scaled(predictor.workload.batch_size // shape.replicas)
    head = costs.head.update + costs.head.optimizer
    loads = {}
    for k, (first, last) in enumerate(predictor.ranges(shape.blocks, shape.head == "block"), 1):
        block = total(costs.layers[first:last])
        loads[f"block {k}"] = block.forward + block.update + block.optimizer
    if shape.head == "block":
        loads[f"block {shape.blocks} + head"] = loads.pop(f"block {shape.blocks}") + head
    else:
        loads["head"] = shape.replicas * costs.head.update + costs.head.optimizer
    most = max(loads, key=loads.__getitem__)
    return most if loads[most] > _MOSTLY * seconds else "waits"


def _bytes_per_step(workload: Workload, ranges: Ranges, replicas: int, apart: bool) -> float:
    """Inputs and activations once, the error to every other block, gradients round the rings.

    apart: the head is in the coordinator, which the last block sends to.
    """
    profile, error = workload.profile, workload.error_bytes
    sending = ranges if apart else ranges[:-1]
    passed = profile.between[0].bytes + sum(profile.between[b].message.bytes for _, b in sending)
    weights = profile.parameters - (profile.head_parameters if apart else 0)
    rings = 2 * (replicas - 1) * 4 * weights
    return workload.batch_size * (passed + len(sending) * error) + rings
