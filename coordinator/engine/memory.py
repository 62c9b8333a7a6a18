"""Refuses a job whose workers cannot fit into memory, before any of them builds a layer.

The estimate is a lower bound (dfa_core/balance/memory.py), so a job is refused only where even this
does not fit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf

import ray

from coordinator.engine.plan import UNBOUNDED, Plan
from dfa_core import JobError
from dfa_core.balance.memory import MemoryNeed, head_need, memory_needs
from workers.gpu import Gpu
from workers.placement import Worker


def needs_of(plan: Plan) -> list[MemoryNeed]:
    """Return what each block of a plan needs at least, and then each head of its own."""
    profile, in_block, m = plan.profile, plan.head == "block", plan.microbatches
    again = plan.kind == "recomputing"
    needs = memory_needs(
        profile, plan.ranges, plan.rule, plan.samples, m, in_block, again, plan.waiting_of_blocks
    )
    return [*needs, *[head_need(profile, plan.rule, plan.samples)] * plan.heads]


def check_memory(plan: Plan, workers: Sequence[Worker], room: Mapping[str, float]) -> None:
    """Refuse a job whose workers cannot fit on their nodes, or on their GPUs.

    room: bytes that each node has for all its workers.

    Raises JobError, with the numbers.
    """
    for place, asked, there in _places(plan, workers, room):
        total = sum(need.bytes for need in asked.values())
        if total <= there:
            continue
        largest = max(asked, key=lambda n: asked[n].bytes)
        need, label = asked[largest], plan.grid.label(largest)
        raise JobError(
            f"memory: the {len(asked)} worker(s) on {_name(place)} need at least {_gb(total)}, "
            f"{label} most: {_gb(need.kept)} for weights, gradients and optimizer, "
            f"{_gb(need.activations)} for activations; {_gb(there)} are available. Use more nodes "
            f"(resources.placement=spread), more blocks, or more microbatches"
        )


def most_waiting(plan: Plan, workers: Sequence[Worker], room: Mapping[str, float]) -> int:
    """Return how many microbatches may wait for their error at a block, as memory allows.

    room: bytes that each node has for all its workers; they fit, as check_memory() says.
    """
    found = float(UNBOUNDED)
    for _, asked, there in _places(plan, workers, room):
        kept = sum(need.kept for need in asked.values())
        each = sum(need.activations for need in asked.values()) / plan.least_waiting
        found = min(found, (there - kept) / max(each, 1.0))
    return int(found)


def _places(
    plan: Plan, workers: Sequence[Worker], room: Mapping[str, float]
) -> Iterator[tuple[Gpu | str, dict[int, MemoryNeed], float]]:
    """Yield each node or GPU, the needs of its workers by their numbers, and its bytes."""
    needs, grid = needs_of(plan), plan.grid
    at: dict[Gpu | str, dict[int, MemoryNeed]] = defaultdict(dict)
    for number, worker in enumerate(workers, start=1):
        at[worker.gpu or worker.node][number] = needs[grid.seat_of(number) - 1]
    for place, asked in at.items():
        yield place, asked, place.memory if isinstance(place, Gpu) else room.get(place, inf)


def room_of_nodes() -> dict[str, float]:
    """Return the bytes that Ray counts as free for workers on every node."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: node["Resources"].get("memory", float("inf")) for node in nodes}


def _name(place: Gpu | str) -> str:
    return f"GPU {place.identity}" if isinstance(place, Gpu) else f"node {place[:8]}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
