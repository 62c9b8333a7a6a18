"""How much memory a job's workers need at least, known before any of them builds a layer.

Weights, gradients, optimizer state, and of every microbatch that waits for its error what goes in
and out of each layer. What autograd keeps inside a layer comes on top, and is not known beforehand:
so a job is refused only where even this does not fit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from coordinator.engine.plan import Plan
from dfa_core import JobError, in_flight
from dfa_core.optimizer import state_per_weight
from workers.gpu import Gpu
from workers.placement import Worker


@dataclass(frozen=True)
class Need:
    """Bytes of one block: of what it keeps all the time, and of activations that wait."""

    kept: float
    activations: float

    @property
    def bytes(self) -> float:
        """Return both together."""
        return self.kept + self.activations


def needs(plan: Plan) -> list[Need]:
    """Return what each block needs at least."""
    rule, grid = plan.rule, plan.grid
    waiting = in_flight(grid.blocks, rule.microbatches // grid.replicas, rule.staleness)
    numbers = 2 + state_per_weight(rule.optimizer)  # of each weight: itself, its gradient, state
    found = []
    for first, last in plan.ranges:
        weights = 4 * sum(layer.parameters for layer in plan.profile.layers[first:last])
        passed = sum(flow.bytes for flow in plan.profile.between[first : last + 1])
        found.append(Need(weights * numbers, passed * plan.samples * waiting))
    return found


def check_memory(plan: Plan, workers: Sequence[Worker], room: Mapping[str, float]) -> None:
    """Refuse a job whose workers cannot fit on their nodes, or on their GPUs.

    room: bytes that each node has for all of them.

    Raises JobError, with the numbers.
    """
    of_blocks, grid = needs(plan), plan.grid
    at: dict[Gpu | str, list[int]] = defaultdict(list)
    for number, worker in enumerate(workers, start=1):
        at[worker.gpu or worker.node].append(number)
    for place, numbers in at.items():
        asked = {n: of_blocks[grid.block_of(n) - 1] for n in numbers}
        total = sum(need.bytes for need in asked.values())
        there = place.memory if isinstance(place, Gpu) else room.get(place, float("inf"))
        if total <= there:
            continue
        largest = max(numbers, key=lambda n: asked[n].bytes)
        need = asked[largest]
        raise JobError(
            f"memory: the {len(numbers)} worker(s) on {_name(place)} need at least {_gb(total)}, "
            f"{grid.label(largest)} most: {_gb(need.kept)} for weights, gradients and optimizer, "
            f"{_gb(need.activations)} for activations; there is {_gb(there)}. Use more nodes "
            f"(resources.placement=spread), more blocks, or more microbatches"
        )


def room_of_nodes() -> dict[str, float]:
    """Return the bytes that Ray counts as free for workers' use, of every node."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: node["Resources"].get("memory", float("inf")) for node in nodes}


def _name(place: Gpu | str) -> str:
    return f"GPU {place.identity}" if isinstance(place, Gpu) else f"node {place[:8]}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
