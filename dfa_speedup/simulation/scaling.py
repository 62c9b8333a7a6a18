"""Predicts steps for any number of blocks and replicas, before any machine is rented.

Every schedule may take any number of microbatches that divides the batch, up to a multiple of its
blocks. errorcast has its head in the last block's worker, or in the coordinator where that is
faster: then that is a worker too, and each pipeline gets one more.
"""

from dataclasses import dataclass

from dfa_core.balance.memory import memory_needs
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.costs import total
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.workload import Workload
from workers.grid import HeadPlace

Ranges = list[tuple[int, int]]
_MOST = 4  # microbatches a block that are tried


@dataclass(frozen=True)
class Prediction:
    """One number of blocks: seconds a step at errorcast's best M, and what it takes.

    head: where it is. efficiency: the share of the workers' time that is work, if each had its own
    core or GPU. speedups: errorcast over each of torch's schedules at its own best M, on as many
    workers; None where the schedule cannot run. memory_mb: of the largest worker; bytes_per_step:
    of all workers.
    """

    blocks: int
    replicas: int
    head: HeadPlace
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
    tried = [m for m in range(1, _MOST * blocks + 1) if batch % m == 0]
    places: tuple[HeadPlace, HeadPlace] = ("block", "coordinator")
    ours = {
        (place, m): predictor.errorcast(blocks, batch // m, m, replicas, place == "block")
        for place in places
        for m in tried
    }
    head, best = min(ours, key=ours.__getitem__)
    seconds, apart = ours[head, best], head == "coordinator"
    speedups: dict[str, float | None] = {}
    for name in PIPELINES:
        times = [predictor.pipeline(name, blocks + apart, batch // m, m, replicas) for m in tried]
        known = [t for t in times if t is not None]
        speedups[name] = min(known) / seconds if known else None
    costs = predictor.costs.scaled(batch)
    work = total(costs.layers)
    busy = replicas * (work.forward + work.update + costs.head.update)
    busy += replicas * work.optimizer + (1 if apart else replicas) * costs.head.optimizer
    ranges = predictor.ranges(blocks, not apart)
    needs = memory_needs(
        workload.profile, ranges, workload.rule, batch // best, best, with_head=not apart
    )
    return Prediction(
        blocks,
        replicas,
        head,
        best,
        seconds,
        busy / (seconds * (blocks * replicas + apart)),
        speedups,
        max(need.bytes for need in needs) / 1e6,
        _bytes_per_step(workload, ranges, replicas, apart),
    )


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
