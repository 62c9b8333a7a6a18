"""Snapshots of all blocks in the cluster's memory: where lost workers come back from.

A snapshot lies in the shared memory of the node that its block is on, and belongs to the
coordinator: it outlives the worker. Where there are other nodes, a neighbour on one of them holds a
copy: it outlives the node.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from dfa_core import Head
from workers.placement import Worker
from workers.snapshots import PartState, pack


@dataclass
class Snapshot:
    """The state after `step` steps: a reference a block, the head's itself."""

    step: int
    blocks: list[Any]
    head: list[PartState]
    workers: list[Worker]
    done: list[Any] = field(default_factory=list)
    fetched: dict[int, Future[list[PartState]]] = field(default_factory=dict)

    def complete(self) -> bool:
        """Return whether all of it is where it should be by now."""
        ready, _ = ray.wait(self.done, num_returns=len(self.done), timeout=0)
        if len(ready) < len(self.done) or not all(f.done() for f in self.fetched.values()):
            return False
        try:
            ray.get(self.done)
        except RayError:  # a worker died meanwhile
            return False
        return not any(f.exception() for f in self.fetched.values())


class Snapshots:
    """Takes one when the one before it is complete, and keeps the newest that is."""

    def __init__(self) -> None:
        self.taken = 0
        self._newest: Snapshot | None = None
        self._coming: Snapshot | None = None
        self._fetch = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshots")

    def due(self, step: int, every: int) -> bool:
        """Return whether so many steps have passed since the last one."""
        last = self._coming or self._newest
        return last is None or step - last.step >= every

    def take(self, workers: Sequence[Worker], head: Head, generation: int, step: int) -> None:
        """Let every worker hand over its state; returns at once.

        workers: of all blocks of one replica, which stands for the others.
        """
        self._settle()
        if self._coming is not None:
            return
        pairs = [w.actor.snapshot.remote(generation, step) for w in workers]
        made = Snapshot(step, [states for _, states in pairs], pack([head]), list(workers))
        made.done = [marker for marker, _ in pairs]
        here = ray.get_runtime_context().get_node_id()
        for block, states in enumerate(made.blocks, start=1):
            holder = _holder(block, workers, here)
            if holder is not None and holder > 0:
                made.done.append(workers[holder - 1].actor.hold.remote(step, block, states))
            elif holder == 0:
                made.fetched[block] = self._fetch.submit(ray.get, states)
        self._coming = made
        self.taken += 1

    def newest(self, lost: Collection[int], gone: Collection[str]) -> Snapshot | None:
        """Return the newest complete snapshot of which every block can be had, or None.

        lost: workers that are gone; gone: nodes that do not answer.
        """
        self._settle()
        self._coming = None
        found = self._newest
        if found is None:
            return None
        here = ray.get_runtime_context().get_node_id()
        for block, worker in enumerate(found.workers, start=1):
            if worker.node not in gone:
                continue
            holder = _holder(block, found.workers, here)
            if block in found.fetched:
                found.blocks[block - 1] = ray.put(found.fetched[block].result())
            elif holder is None or holder in lost:
                self._newest = None
                return None
            else:
                held = found.workers[holder - 1].actor.held.remote(found.step, block)
                found.blocks[block - 1] = held
        return found

    def drop(self) -> None:
        """Forget all: the run goes back to where they do not belong."""
        self._newest = self._coming = None

    def close(self) -> None:
        """Forget all, and stop the thread."""
        self.drop()
        self._fetch.shutdown(wait=False, cancel_futures=True)

    def _settle(self) -> None:
        if self._coming is not None and self._coming.complete():
            self._newest, self._coming = self._coming, None


def _holder(block: int, workers: Sequence[Worker], here: str) -> int | None:
    """Return the next rank behind a block's that is on another node, or None; 0 is this process."""
    nodes = [here, *(worker.node for worker in workers)]
    ring = [*range(block + 1, len(nodes)), *range(block)]
    return next((rank for rank in ring if nodes[rank] != nodes[block]), None)
