"""Snapshots of all blocks in the cluster's memory: lost workers restart from them.

A snapshot is in the shared memory of the node that its block is on, and the coordinator owns it, so
that it survives the worker. Where there are other nodes, a worker on one of them holds a copy, so
that it survives the node.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError

from dfa_core import Head
from workers.in_cluster import InCluster
from workers.placement import Worker
from workers.snapshots import ModuleState, pack


@dataclass(frozen=True)
class Snapshot:
    """The state after `step` steps.

    blocks: a reference to each block's list of ModuleState; here: of the head, if it is in this
        process.
    workers: that the blocks were on.
    done: calls that are over once everything is in its place.
    fetched: copies in this process, by block.
    """

    step: int
    blocks: list[Any]
    here: list[ModuleState]
    workers: list[Worker]
    done: list[Any] = field(default_factory=list)
    fetched: dict[int, Future[list[ModuleState]]] = field(default_factory=dict)

    def complete(self) -> bool:
        """Return whether all states and copies are in their places by now."""
        ready, _ = ray.wait(self.done, num_returns=len(self.done), timeout=0)
        if len(ready) < len(self.done) or not all(f.done() for f in self.fetched.values()):
            return False
        try:
            ray.get(self.done)
        except RayError:  # a worker died meanwhile
            return False
        return not any(f.exception() for f in self.fetched.values())


class Snapshots:
    """Takes a snapshot when the previous one is complete, and keeps the newest complete one."""

    def __init__(self) -> None:
        self.taken = 0
        self._newest: Snapshot | None = None
        self._coming: Snapshot | None = None
        self._fetch = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshots")

    def due(self, step: int, every: int) -> bool:
        """Return whether `every` steps have passed since the last snapshot."""
        last = self._coming or self._newest
        return last is None or step - last.step >= every

    def take(
        self, workers: Sequence[Worker], here: Sequence[Head], generation: int, step: int
    ) -> None:
        """Start to copy the state of all workers; return at once.

        workers: of all blocks of one replica, whose state the other replicas share.
        here: the head, if it is in this process.
        """
        self._keep_complete()
        if self._coming is not None:
            return
        node = ray.get_runtime_context().get_node_id()
        calls = [w.actor.snapshot.remote(generation, step) for w in workers]
        done, blocks = [marker for marker, _ in calls], [states for _, states in calls]
        fetched = {}
        for block, states in enumerate(blocks, start=1):
            holder = _holder(block, workers, node)
            if holder == 0:
                fetched[block] = self._fetch.submit(ray.get, states)
            elif holder is not None:
                done.append(workers[holder - 1].actor.hold.remote(step, block, InCluster(states)))
        self._coming = Snapshot(step, blocks, pack(here), list(workers), done, fetched)
        self.taken += 1

    def settle(self) -> None:
        """Drop the snapshot that is not complete by now: a worker that it waits for may be gone."""
        self._keep_complete()
        self._coming = None

    def newest(self, lost: Collection[int], gone: Collection[str]) -> Snapshot | None:
        """Return the newest complete snapshot, or None if a block of it is lost.

        lost: workers that are gone; gone: nodes that do not answer. A block on such a node comes
        from its copy.
        """
        if self._newest is None:
            return None
        here, found = ray.get_runtime_context().get_node_id(), self._newest
        blocks = list(found.blocks)
        for block, worker in enumerate(found.workers, start=1):
            if worker.node not in gone:
                continue
            holder = _holder(block, found.workers, here)
            if block in found.fetched:
                blocks[block - 1] = ray.put(found.fetched[block].result())
            elif holder is None or holder in lost:
                return None
            else:
                held = found.workers[holder - 1].actor.held.remote(found.step, block)
                blocks[block - 1] = held
        return replace(found, blocks=blocks)

    def drop(self) -> None:
        """Drop all snapshots: the run goes back to a state that they do not belong to."""
        self._newest = self._coming = None

    def close(self) -> None:
        """Drop all snapshots, and stop the thread."""
        self.drop()
        self._fetch.shutdown(wait=False, cancel_futures=True)

    def _keep_complete(self) -> None:
        if self._coming is not None and self._coming.complete():
            self._newest, self._coming = self._coming, None


def _holder(block: int, workers: Sequence[Worker], here: str) -> int | None:
    """Return the next rank after a block's that is on another node, or None; 0 is this process."""
    nodes = [here, *(worker.node for worker in workers)]
    ring = [*range(block + 1, len(nodes)), *range(block)]
    return next((rank for rank in ring if nodes[rank] != nodes[block]), None)
