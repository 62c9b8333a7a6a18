"""The workers of a run, and rank 0's membership in their groups: join, call, find what failed."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from dfa_core import JobError, TrainingFailed
from workers.grid import Grid
from workers.group import Group, GroupLeft, listen, open_store, replica_store
from workers.nccl_group import ring
from workers.placement import Worker, rendezvous_host
from workers.transport import RankContext, Rendezvous, Transport, join

_ABORT_S = 5.0  # in which a worker ends its call after its group was aborted
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
    ) -> None:
        """timeout_s: longest wait for one message or answer; device: where rank 0 computes."""
        self.all, self.generation = list(workers), 0
        self._grid, self._timeout_s, self._transport = grid, timeout_s, transport
        self._device = device
        self._groups: list[Group] = []  # one a replica

    @property
    def groups(self) -> list[Group]:
        """Return rank 0's groups, one a replica. Raises PipelineBroken when it has joined none."""
        if not self._groups:
            raise PipelineBroken("the workers have joined no group")
        return self._groups

    @property
    def first_replica(self) -> list[Worker]:
        """Return the workers of replica 0: the state of the other replicas equals theirs."""
        return self.all[: self._grid.blocks]

    def join(self) -> None:
        """Open the store, on one address alone, and let all ranks join their groups.

        Raises PipelineBroken when a worker is gone.
        """
        self.generation = next(_generations)
        world, ranks = len(self.all) + 1, self._grid.blocks + 1
        host = rendezvous_host(self.all)
        listener = listen(host)
        port = listener.getsockname()[1]
        store = open_store(host, port, world, listener)
        rendezvous = Rendezvous(
            host, port, world, self._timeout_s, self._transport, self.generation
        )
        calls = [worker.actor.join.remote(rendezvous) for worker in self.all]
        context = RankContext(host, self._device, self._timeout_s)
        with self.watching(calls):
            for r in range(self._grid.replicas):
                of_replica = replica_store(store, r)
                self._groups.append(
                    join(self._transport, context, 0, ranks, of_replica, ring(ranks))
                )
            self.all_of(calls)

    def leave(self) -> None:
        """Leave all groups, and make the workers leave them: their calls end at once."""
        groups, self._groups = self._groups, []
        for group in groups:
            group.close()
        if groups:
            for worker in self.all:
                worker.actor.abort.remote(self.generation)

    def all_of(self, calls: Sequence[Any], numbers: Sequence[int] | None = None) -> list[Any]:
        """Return the results of one call a worker.

        numbers: of the workers, where they are not the first ones.

        Raises PipelineBroken when a worker died or did not answer in time, otherwise what the first
        failed call raised.
        """
        pending, deadline = list(calls), time.monotonic() + self._timeout_s
        while pending:
            ready, pending = ray.wait(pending, timeout=max(0.0, deadline - time.monotonic()))
            if not ready or _failure(ready[0]) is not None:
                raise self._cause(calls, numbers=numbers)
        return list(ray.get(list(calls)))

    @contextmanager
    def watching(self, calls: Sequence[Any]) -> Iterator[None]:
        """Leave the groups as soon as one call fails, and raise the cause of the failure.

        In gloo only the direct peers of a dead process notice its death. Ray notifies this process,
        and leave() notifies the other workers.
        """
        done = threading.Event()

        def watch() -> None:
            pending = list(calls)
            while pending and not done.is_set():
                ready, pending = ray.wait(pending, num_returns=1, timeout=0.5)
                if any(_failure(call) is not None for call in ready):
                    self.leave()
                    return

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            yield
        except GroupLeft as error:
            raise self._cause(calls, str(error)) from error
        except PipelineBroken:
            raise
        except BaseException:
            self.leave()
            ray.wait(list(calls), num_returns=len(calls), timeout=_ABORT_S)
            raise
        finally:
            done.set()
            watcher.join()

    def _cause(
        self, calls: Sequence[Any], seen: str = "", numbers: Sequence[int] | None = None
    ) -> Exception:
        """Leave the groups, and return why the calls failed.

        A worker that died or hangs is the cause; then an error of a worker's own; a broken
        connection is only how the other ranks noticed.

        seen: the error that rank 0 noticed; numbers: as in all_of().
        """
        self.leave()
        ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=_ABORT_S)
        by_worker = dict(zip(numbers or range(1, len(calls) + 1), calls, strict=True))
        failures = {k: _failure(call) for k, call in by_worker.items() if call in ready}
        died = [k for k, f in failures.items() if isinstance(f, RayActorError | OutOfMemoryError)]
        hanging = [k for k, call in by_worker.items() if call in late]
        return self._lost(died, hanging) or _raised(failures.values(), seen)

    def _lost(self, died: Sequence[int], hanging: Sequence[int]) -> PipelineBroken | None:
        """Return an error that names the lost workers, if there are any."""
        label = self._grid.label
        messages = [
            *(f"the worker of {label(k)} (process {self._process(k)}) died" for k in died),
            *(f"{label(k)} hangs: no answer within {self._timeout_s:g} s" for k in hanging),
        ]
        lost = sorted([*died, *hanging])
        return PipelineBroken("; ".join(messages), lost) if lost else None

    def _process(self, worker: int) -> int:
        return self.all[worker - 1].process


def _raised(failures: Iterable[Exception | None], seen: str) -> Exception:
    """Return the first error of a worker's own, otherwise that the connection broke.

    seen: how rank 0 noticed it, if it did.
    """
    raised = [
        f for f in failures if isinstance(f, JobError | TrainingFailed | OSError | RayTaskError)
    ]
    own = next((failure for failure in raised if not isinstance(failure, GroupLeft)), None)
    noticed = seen or next(map(str, raised), "")
    return own or PipelineBroken(f"the connection between the workers broke: {noticed}")


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
