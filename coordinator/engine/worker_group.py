"""The workers of a run as the coordinator talks with them: who failed, and for which reason."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from dfa_core import JobError, TrainingFailed
from workers.grid import Grid
from workers.group import GroupLeft
from workers.placement import Worker

_ABORT_S = 5.0  # in which a worker ends what it does once its group is gone


class PipelineBroken(TrainingFailed):
    """The workers' group broke; `lost` numbers the workers (from 1) that need a new process."""

    def __init__(self, what: str, lost: Sequence[int] = ()) -> None:
        super().__init__(what)
        self.lost = tuple(lost)


class WorkerGroup:
    """Workers of all blocks; whatever fails breaks off their group, and is told with its cause."""

    def __init__(
        self, workers: Sequence[Worker], grid: Grid, timeout_s: float, leave: Callable[[], None]
    ) -> None:
        """leave: breaks off the group on this side and on theirs."""
        self.workers, self._grid = list(workers), grid
        self._timeout_s, self._leave = timeout_s, leave

    def all_of(self, calls: Sequence[Any], numbers: Sequence[int] | None = None) -> list[Any]:
        """Return the results of a call a worker; numbers: whose, where they are not the first.

        Raises PipelineBroken when a worker died or did not answer in time, else what the first
        that failed raised.
        """
        pending, deadline = list(calls), monotonic() + self._timeout_s
        while pending:
            ready, pending = ray.wait(pending, timeout=max(0.0, deadline - monotonic()))
            if not ready or _failure(ready[0]) is not None:
                raise self._broken(calls, numbers=numbers)
        return list(ray.get(list(calls)))

    @contextmanager
    def watching(self, calls: Sequence[Any]) -> Iterator[None]:
        """Break off the group as soon as one call fails, and raise the failure's true cause.

        Only the direct peers of a dead process see it in gloo; Ray tells us, and we tell the rest.
        """
        done = threading.Event()

        def watch() -> None:
            pending = list(calls)
            while pending and not done.is_set():
                ready, pending = ray.wait(pending, num_returns=1, timeout=0.5)
                if any(_failure(call) is not None for call in ready):
                    self._leave()
                    return

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            yield
        except GroupLeft as error:
            raise self._broken(calls, str(error)) from error
        except PipelineBroken:
            raise
        except BaseException:
            self._leave()
            ray.wait(list(calls), num_returns=len(calls), timeout=_ABORT_S)
            raise
        finally:
            done.set()
            watcher.join()

    def _broken(
        self, calls: Sequence[Any], seen: str = "", numbers: Sequence[int] | None = None
    ) -> Exception:
        """Return why the group broke: a broken connection is only how the others noticed."""
        self._leave()
        ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=_ABORT_S)
        of = dict(zip(numbers or range(1, len(calls) + 1), calls, strict=True))
        failures = {k: _failure(call) for k, call in of.items() if call in ready}
        died = [k for k, f in failures.items() if isinstance(f, RayActorError | OutOfMemoryError)]
        hangs = [k for k, call in of.items() if call in late]
        label = self._grid.label
        said = [f"the worker of {label(k)} (process {self._process(k)}) died" for k in died]
        said += [f"{label(k)} hangs: no answer within {self._timeout_s:g} s" for k in hangs]
        if not said:
            for failure in failures.values():
                if isinstance(failure, JobError | TrainingFailed | OSError | RayTaskError):
                    if not isinstance(failure, GroupLeft):
                        return failure
                    seen = seen or str(failure)
            said = [f"the connection between the workers broke: {seen}"]
        return PipelineBroken("; ".join(said), sorted([*died, *hangs]))

    def _process(self, worker: int) -> int:
        return self.workers[worker - 1].process


def _failure(call: Any) -> Exception | None:
    """Wait for a call; return what it raised in the worker, as it was raised there."""
    failure: Exception | None = None
    try:
        ray.get(call)
    except RayTaskError as error:
        known = isinstance(error.cause, JobError | TrainingFailed | OSError)
        failure = error.cause if known else error
        if known:  # raised again here: where it was raised first would be lost
            failure.add_note(f"in the worker:\n{error}")
    except RayError as error:
        failure = error
    return failure
