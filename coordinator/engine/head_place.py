"""Chooses which process computes the head."""

from collections.abc import Sequence
from math import inf

from coordinator.engine.plan import Plan
from workers.grid import AskedPlace
from workers.machine.cpus import usable_cpus
from workers.placement import Worker

_CLEARLY = 1.15  # by which the coordinator must be faster: it is a process and messages more


def with_head_placed(
    plan: Plan,
    asked: AskedPlace,
    heads: int,
    workers: Sequence[Worker],
    node: str,
    coordinator_gpus: float,
) -> Plan:
    """Return the plan with the head where the job asks for it, or where a step takes less time.

    A choice of our own never changes a bit: with replicas it is the coordinator, since copies of
    the head would add their gradients in another order.

    heads: workers that each replica has for the head alone, if any.
    node: the coordinator's. coordinator_gpus: its share, which it was given for the head.
    """
    if heads:
        return plan.with_heads(heads)
    if asked != "auto":
        return plan.with_head_in(asked)
    if plan.replicas > 1 or coordinator_gpus:
        return plan
    in_block = plan.with_head_in("block")
    if workers[-1].gpu is not None:
        return in_block
    here = sum(worker.node == node for worker in workers)
    cores = usable_cpus() if here == len(workers) else inf
    apart, together = step_s(plan, cores), step_s(in_block, cores)
    return plan if together > _CLEARLY * apart else in_block


def step_s(plan: Plan, cores: float) -> float:
    """Return the seconds that the busiest process computes for a microbatch, at least.

    cores: that all processes share; infinity where workers are on other nodes.
    """
    costs, head = [layer.seconds for layer in plan.profile.layers], plan.profile.head_seconds
    loads = [sum(costs[first:last]) for first, last in plan.ranges]
    if plan.head == "block":
        loads[-1] += head
    else:
        loads.append(head)
    return max(*loads, sum(loads) / cores)
