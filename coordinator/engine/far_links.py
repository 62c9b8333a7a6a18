"""Measures how long messages travel between nodes, and lets as many microbatches wait for them."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from coordinator.engine.plan import Plan
from coordinator.engine.worker_group import WorkerGroup
from workers.links import Inbox, Outbox

_TIMES = 4  # the first ones pay for connections that have rested


@dataclass(frozen=True)
class Hop:
    """The seconds that a microbatch's message takes to the next process, and what follows.

    waiting: microbatches that may wait for their error at a block.
    memory_mb: of their activations, in the largest block.
    """

    seconds: float
    waiting: int
    memory_mb: float

    @property
    def message(self) -> str:
        """Return one line for people."""
        return (
            f"a message takes {1e3 * self.seconds:,.1f} ms to the next process: "
            f"{self.waiting} microbatches wait at each block ({self.memory_mb:,.0f} MB)"
        )


def settled_waiting(workers: WorkerGroup, plan: Plan, far: Callable[[Hop], None]) -> int:
    """Return how many microbatches may wait for their error at a block; all workers have joined.

    far: called where they are more than usual, since messages travel for long.

    Raises PipelineBroken when a worker is gone.
    """
    if not workers.far:
        return plan.waiting()
    seconds = _trip_s(workers, plan) / (plan.grid.blocks + 1)
    waiting = plan.waiting(seconds)
    if waiting > plan.waiting():
        far(Hop(seconds, waiting, _memory_mb(plan, waiting)))
    return waiting


def _memory_mb(plan: Plan, waiting: int) -> float:
    """Return the activations that wait in the largest block, MB."""
    kept = plan.profile.between
    alone = plan.kind == "recomputing"  # the input
    of_blocks = [kept[a : a + 1 if alone else b + 1] for a, b in plan.ranges]
    return waiting * plan.samples * max(sum(s.bytes for s in specs) for specs in of_blocks) / 1e6


def _trip_s(workers: WorkerGroup, plan: Plan) -> float:
    """Send messages of a microbatch around the first replica, while nobody computes.

    Returns the seconds of the fastest trip from rank 0 through all blocks and back.
    """
    group, blocks, sizes = workers.groups[0].blocks, plan.grid.blocks, [plan.samples] * _TIMES
    first, last = plan.profile.between[0].message, plan.profile.between[-1].message
    calls = [w.actor.pass_on.remote(workers.generation, _TIMES) for w in workers.all[:blocks]]
    trips = []
    with workers.watching(calls):
        inputs, outputs = Outbox(group, to=1), Inbox(group, blocks, last, sizes, slots=_TIMES)
        for samples in sizes:
            start = perf_counter()
            inputs.send(first.empty(samples))
            outputs.take()
            trips.append(perf_counter() - start)
        inputs.finish()
        workers.all_of(calls)
    return min(trips)
