"""Predicts steps for any number of blocks and replicas, before any machine is rented.

Every schedule may take one, two or four times as many microbatches as it has blocks.
"""

from dataclasses import dataclass

from dfa_core import partition
from dfa_core.balance.memory import memory_needs
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.costs import total
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.workload import Workload

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Prediction:
    """One number of blocks: seconds a step at errorcast's best M, and what it takes.

    speedups: errorcast over each of torch's schedules at its own best M; None where the schedule
    cannot run. memory_mb: of the largest worker; bytes_per_step: of all workers.
    """

    blocks: int
    replicas: int
    microbatches: int
    seconds: float
    efficiency: float
    speedups: dict[str, float | None]
    memory_mb: float
    bytes_per_step: float


def predict_scaling(predictor: Predictor, blocks: int, replicas: int) -> Prediction | str:
    """Return the prediction for K blocks of R replicas, or why there is none."""
    workload = predictor.workload
    layers = len(workload.model.layers)
    if blocks > layers:
        return f"the model has {layers} layers"
    if workload.batch_size % replicas:
        return f"{replicas} replicas do not divide the batch of {workload.batch_size}"
    batch = workload.batch_size // replicas
    tried = [m for m in (blocks, 2 * blocks, 4 * blocks) if batch % m == 0]
    if not tried:
        numbers = f"{blocks}, {2 * blocks} or {4 * blocks}"
        return f"a batch of {batch} cannot be cut into {numbers} microbatches"
    ours = {m: predictor.errorcast(blocks, batch // m, m, replicas) for m in tried}
    best = min(ours, key=ours.__getitem__)
    speedups: dict[str, float | None] = {}
    for name in PIPELINES:
        times = [predictor.pipeline(name, blocks, batch // m, m, replicas) for m in tried]
        known = [t for t in times if t is not None]
        speedups[name] = min(known) / ours[best] if known else None
    work = total(predictor.costs.scaled(batch).layers)
    limit = (work.forward + work.update + work.optimizer) / blocks
    ranges = partition(workload.costs, blocks)
    needs = memory_needs(workload.profile, ranges, workload.rule, batch // best, best)
    return Prediction(
        blocks,
        replicas,
        best,
        ours[best],
        limit / ours[best],
        speedups,
        max(need.bytes for need in needs) / 1e6,
        _bytes_per_step(workload, ranges, replicas),
    )


def _bytes_per_step(workload: Workload, ranges: Ranges, replicas: int) -> float:
    """Inputs and activations once, the error to every block, gradients round the rings."""
    between, error = workload.profile.between, workload.error_bytes
    passed = between[0].bytes + sum(between[last].message.bytes for _, last in ranges)
    rings = 2 * (replicas - 1) * 4 * workload.profile.parameters
    return workload.batch_size * (passed + len(ranges) * error) + rings
