"""Refuses a job whose workers cannot fit into memory, before any of them builds a layer.

The estimate is a lower bound (dfa_core/balance/memory.py), so a job is refused only where even this
does not fit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import ray

from coordinator.engine.plan import Plan
from dfa_core import JobError
from dfa_core.balance.memory import MemoryNeed, head_need, memory_needs
from workers.gpu import Gpu
from workers.placement import Worker


def needs_of(plan: Plan) -> list[MemoryNeed]:
    """Return what each block of a plan needs at least, and then each head of its own."""
    microbatches = plan.rule.microbatches // plan.replicas
    profile, in_block = plan.profile, plan.head == "block"
    needs = memory_needs(profile, plan.ranges, plan.rule, plan.samples, microbatches, in_block)
    return [*needs, *[head_need(profile, plan.rule, plan.samples)] * plan.heads]


def check_memory(plan: Plan, workers: Sequence[Worker], room: Mapping[str, float]) -> None:
    """Refuse a job whose workers cannot fit on their nodes, or on their GPUs.

    room: bytes that each node has for all its workers.

    Raises JobError, with the numbers.
    """
    needs, grid = needs_of(plan), plan.grid
    at: dict[Gpu | str, list[int]] = defaultdict(list)
    for number, worker in enumerate(workers, start=1):
        at[worker.gpu or worker.node].append(number)
    for place, numbers in at.items():
        asked = {n: needs[grid.seat_of(n) - 1] for n in numbers}
        total = sum(need.bytes for need in asked.values())
        there = place.memory if isinstance(place, Gpu) else room.get(place, float("inf"))
        if total <= there:
            continue
        largest = max(numbers, key=lambda n: asked[n].bytes)
        need = asked[largest]
        raise JobError(
            f"memory: the {len(numbers)} worker(s) on {_name(place)} need at least {_gb(total)}, "
            f"{grid.label(largest)} most: {_gb(need.kept)} for weights, gradients and optimizer, "
            f"{_gb(need.activations)} for activations; {_gb(there)} are available. Use more nodes "
            f"(resources.placement=spread), more blocks, or more microbatches"
        )


def room_of_nodes() -> dict[str, float]:
    """Return the bytes that Ray counts as free for workers on every node."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: node["Resources"].get("memory", float("inf")) for node in nodes}


def _name(place: Gpu | str) -> str:
    return f"GPU {place.identity}" if isinstance(place, Gpu) else f"node {place[:8]}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
