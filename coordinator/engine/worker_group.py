"""The workers of a run, and rank 0's membership in their groups: join, call, find what failed."""

import itertools
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from coordinator.engine.rank0 import ReplicaGroups
from dfa_core import JobError, TrainingFailed
from workers.grid import Grid
from workers.groups.group import (
    LOOPBACK,
    Group,
    GroupLeft,
    data_store,
    head_store,
    listen,
    open_store,
    replica_store,
)
from workers.groups.nccl_group import ring
from workers.groups.transport import RankContext, Rendezvous, Transport, join
from workers.life.monitor import Monitor
from workers.life.sign import Sign
from workers.placement import Worker, rendezvous_host

_ABORT_S = 5.0  # in which a worker that only waited ends its call after its group was aborted
_generations = itertools.count(time.time_ns())  # no two groups of a worker share a number


class PipelineBroken(TrainingFailed):
    """The workers' group broke; `lost` numbers the workers (from 1) that need a new process."""

    def __init__(self, what: str, lost: Sequence[int] = ()) -> None:
        super().__init__(what)
        self.lost = tuple(lost)


class WorkerGroup:
    """The workers of all blocks and replicas, and this process as rank 0 of each replica's group.

    When a call fails, all ranks leave their groups, so that nobody waits for the failed one, and
    the error names the cause.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        grid: Grid,
        timeout_s: float,
        transport: Transport,
        device: torch.device,
        hosts_of_head: int = 0,
        blocks_read: bool = False,
        both_ways: bool = False,
    ) -> None:
        """timeout_s: silence after which a worker counts as hung; device: where rank 0 computes.

        hosts_of_head: workers of each replica that compute the head; 0 where rank 0 does.
        blocks_read: whether the first block of each replica reads the data.
        both_ways: whether blocks send gradients back.
        """
        self.all, self.generation = list(workers), 0
        self._grid, self._timeout_s, self._transport = grid, timeout_s, transport
        self._device, self._hosts_of_head = device, hosts_of_head
        self._blocks_read, self._both_ways = blocks_read, both_ways
        self._groups: list[ReplicaGroups] = []  # one a replica, once all are joined
        self._open: list[Group] = []  # joined and not left
        self._left = 0  # the newest generation that this process has left
        self._awaits_calls = False
        self._hung: list[int] = []  # workers, and why nothing moves, as the watcher saw it
        self._stuck = ""

    @property
    def groups(self) -> list[ReplicaGroups]:
        """Return rank 0's groups, by replica. Raises PipelineBroken when it has joined none."""
        if not self._groups:
            raise PipelineBroken("the workers have joined no group")
        return self._groups

    @property
    def joined(self) -> list[Group]:
        """Return all groups that rank 0 is in."""
        return list(self._open)

    @property
    def far(self) -> bool:
        """Return whether messages travel between nodes, and rank 0 sees how long they take."""
        return self._transport == "gloo" and rendezvous_host(self.all) != LOOPBACK

    @property
    def first_replica(self) -> list[Worker]:
        """Return the blocks of replica 0 and its first head; all other workers are their copies."""
        return self.all[: self._grid.blocks + min(1, self._grid.heads)]

    def join(self) -> None:
        """Open the store, on one address alone, and let all ranks join their groups.

        Raises PipelineBroken when a worker is gone.
        """
        self.generation, self._hung, self._stuck = next(_generations), [], ""
        world, ranks = len(self.all) + 1, self._grid.blocks + 1
        host = rendezvous_host(self.all)
        listener = listen(host)
        port = listener.getsockname()[1]
        store = open_store(host, port, world, listener)
        rendezvous = Rendezvous(host, port, world, self._transport, self.generation)
        calls = [worker.actor.join.remote(rendezvous) for worker in self.all]
        context = RankContext(host, self._device, self._has_left)
        with self.watching(calls):
            joined = []
            for r in range(self._grid.replicas):
                of_replica = replica_store(store, r)
                links = ring(ranks, self._both_ways)
                blocks = self._kept(join(self._transport, context, 0, ranks, of_replica, links))
                pairs = [head_store(store, r, h) for h in range(self._hosts_of_head)]
                pairs += [data_store(store, r)] if self._blocks_read else []
                met = [
                    self._kept(join(self._transport, context, 0, 2, pair, ring(2)))
                    for pair in pairs
                ]
                data = met.pop() if self._blocks_read else None
                joined.append(ReplicaGroups(blocks, tuple(met), data))
            self.all_of(calls)
            self._groups = joined

    def _kept(self, group: Group) -> Group:
        """Keep a group that was just joined. Raises GroupLeft if it is to be left already."""
        self._open.append(group)
        if self._has_left():
            group.close()
            raise GroupLeft("another rank could not join")
        return group

    def leave(self) -> None:
        """Leave all groups, and make the workers leave them: their calls end at once."""
        first, self._left = self._left < self.generation, self.generation
        groups, self._open, self._groups = self._open, [], []  # _kept() closes what comes later
        for group in groups:
            group.close()
        if first:
            for worker in self.all:
                worker.actor.abort.remote(self.generation)

    def _has_left(self) -> bool:
        return self._left >= self.generation

    def all_of(self, calls: Sequence[Any], numbers: Sequence[int] | None = None) -> list[Any]:
        """Return the results of one call a worker, however long the workers work.

        numbers: of the workers, where they are not the first ones.

        Raises PipelineBroken when a worker died or hangs, otherwise what the first failed call
        raised.
        """
        by_worker = dict(zip(numbers or range(1, len(calls) + 1), calls, strict=True))
        monitor, pending = self._monitor(by_worker), list(calls)
        self._awaits_calls = True
        try:
            while pending:
                ready, pending = ray.wait(pending, timeout=monitor.period_s)
                monitor.look()
                hung = monitor.hung()
                if hung or any(_failure(call) is not None for call in ready):
                    raise self._cause(by_worker, hung)
        finally:
            self._awaits_calls = False
        return list(ray.get(list(calls)))

    @contextmanager
    def watching(self, calls: Sequence[Any]) -> Iterator[None]:
        """Leave the groups as soon as a call fails or a worker hangs, and raise the cause.

        In gloo only the direct peers of a dead process notice its death. Ray notifies this process,
        and leave() notifies the other workers.
        """
        by_worker, done = dict(enumerate(calls, start=1)), threading.Event()

        def watch() -> None:
            monitor, pending = self._monitor(by_worker), list(calls)
            while pending and not done.is_set():
                ready, pending = ray.wait(pending, timeout=monitor.period_s)
                failed = any(_failure(call) is not None for call in ready)
                monitor.look()
                self._hung = monitor.hung()
                if monitor.still(self._awaited):
                    self._stuck = f"all processes wait, and no message moves for {self._limit}"
                if failed or self._hung or self._stuck:
                    self.leave()
                    return

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            yield
        except GroupLeft as error:
            raise self._cause(by_worker, seen=str(error)) from error
        except PipelineBroken:
            raise
        except BaseException:
            self.leave()
            ray.wait(list(calls), num_returns=len(calls), timeout=_ABORT_S)
            raise
        finally:
            done.set()
            watcher.join()

    def _monitor(self, numbers: Iterable[int]) -> Monitor:
        return Monitor({n: self.all[n - 1] for n in numbers}, self._timeout_s)

    def _awaited(self, sign: Sign) -> Hashable | None:
        """Return what shows that all ranks wait for messages, and none of them moves.

        None where this rank works, or the worker with this sign.
        """
        groups = self.joined
        waits = self._awaits_calls or any(group.waits for group in groups)
        return (sign.moved, *(group.moved() for group in groups)) if waits and sign.waits else None

    @property
    def _limit(self) -> str:
        return f"{self._timeout_s:g} s"

    def _cause(
        self, calls: Mapping[int, Any], hung: Sequence[int] = (), seen: str = ""
    ) -> Exception:
        """Leave the groups, and return why the calls failed.

        A worker that died or hangs is the cause; then an error of a worker's own; a broken
        connection is only how the other ranks noticed.

        calls: by worker; hung: the workers known to hang; seen: the error that rank 0 noticed.
        """
        self.leave()
        ended, hanging = self._until_ended(calls, {*hung, *self._hung} & calls.keys())
        died = [k for k, f in ended.items() if isinstance(f, RayActorError | OutOfMemoryError)]
        busy = [k for k in calls if k not in ended and k not in hanging]
        own, noticed = _own(ended.values()), self._stuck or seen or _noticed(ended.values())
        if own is not None and not died and not hanging:
            return own
        label = self._grid.label
        messages = [
            *(f"the worker of {label(k)} (process {self._process(k)}) died" for k in died),
            *(f"{label(k)} hangs: no sign of life for {self._limit}" for k in hanging),
        ] or [f"the connection between the workers broke{noticed and f': {noticed}'}"]
        messages += [f"{label(k)} works on and is replaced" for k in busy]
        return PipelineBroken("; ".join(messages), sorted([*died, *hanging, *busy]))

    def _until_ended(
        self, calls: Mapping[int, Any], hung: Set[int]
    ) -> tuple[dict[int, Exception | None], list[int]]:
        """Wait until the calls have ended, now that their groups are aborted.

        A worker that lives may be in the middle of long work. It has as long as a silent one has
        before it counts as hung; then a new process takes its place, which loses nothing.

        Returns what the calls that ended have raised, by worker, and the workers that hang.
        """
        monitor, hanging = self._monitor(calls), set(hung)
        deadline = time.monotonic() + max(_ABORT_S, self._timeout_s)
        while True:
            pending = {k: call for k, call in calls.items() if k not in hanging}
            ready = _ready(list(pending.values()), monitor.period_s)
            ended = {k: _failure(call) for k, call in pending.items() if call in ready}
            if _own(ended.values()) is not None:  # the run ends, unless a death caused it
                deadline = min(deadline, time.monotonic() + _ABORT_S)
            if len(ended) == len(pending) or time.monotonic() > deadline:
                return ended, sorted(hanging)
            monitor.look()
            hanging.update(monitor.hung())

    def _process(self, worker: int) -> int:
        return self.all[worker - 1].process


def _ready(calls: list[Any], seconds: float) -> list[Any]:
    """Wait until all calls have ended, or for some seconds; return those that have."""
    return ray.wait(calls, num_returns=len(calls), timeout=seconds)[0] if calls else []


def _own(failures: Iterable[Exception | None]) -> Exception | None:
    """Return the first error of a worker's own: not that others have left the group."""
    own = JobError | TrainingFailed | OSError | RayTaskError
    return next((f for f in failures if isinstance(f, own) and not isinstance(f, GroupLeft)), None)


def _noticed(failures: Iterable[Exception | None]) -> str:
    """Return how the first worker noticed that the group broke; an empty text if none did."""
    return next((str(f) for f in failures if isinstance(f, GroupLeft)), "")


def _failure(call: Any) -> Exception | None:
    """Wait for a call; return what it raised in the worker, as it was raised there."""
    failure: Exception | None = None
    try:
        ray.get(call)
    except RayTaskError as error:
        known = isinstance(error.cause, JobError | TrainingFailed | OSError)
        failure = error.cause if known else error
        if known:  # raising it again here would lose where it was raised first
            failure.add_note(f"in the worker:\n{error}")
    except RayError as error:
        failure = error
    return failure
