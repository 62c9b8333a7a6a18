"""The engine of the method `dfa`: a block in each Ray actor, and this process as rank 0."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from torch import Tensor

from coordinator.engine import test_parts
from coordinator.feed import Feed
from coordinator.loop import OnStep, evaluate_segment, train_segment
from coordinator.plan import Plan
from dfa_core import Head, JobError, LearningRule, TrainingFailed
from dfa_tasks import Splits
from workers.actor import Meeting, Shipment
from workers.group import Group, GroupLeft, listen, open_store
from workers.loop import SegmentStats
from workers.placement import Worker, meeting_host
from workers.state_files import StateFile, read_state, write_state
from workers.trace import Span, TracedHead

_ABORT_S = 5.0


class WorkerDied(TrainingFailed):
    """The process of a block is gone."""


class Pipeline:
    """K workers and the head; nothing but activations and the global error goes between them."""

    def __init__(
        self,
        workers: Sequence[Worker],
        plan: Plan,
        model: Shipment,
        head: Head,
        feed: Feed,
        rule: LearningRule,
        timeout_s: float,
    ) -> None:
        """Let each worker build its own layers, and join all into one group.

        workers: of blocks 1..K.
        model: the packed dfa_core.Model.
        timeout_s: longest wait for one message.

        Raises JobError when a layer cannot be built, WorkerDied when a worker is gone.
        """
        self._workers, self._plan, self._head, self._feed = list(workers), plan, head, feed
        self._all = self._newest = [SegmentStats(0.0, 0.0, 0)] * (len(workers) + 1)
        shipped = ray.put(model)
        ranges = zip(self._workers, plan.ranges, strict=True)
        self._all_of([w.actor.build.remote(shipped, a, b, rule) for w, (a, b) in ranges])
        self._group = self._meet(timeout_s)

    def train(self, first: int, last: int, on_step: OnStep) -> None:
        """Train steps first..last-1: one call a worker, and rank 0's own loop meanwhile."""
        start, waited, sent = perf_counter(), self._group.wait_s, self._group.bytes_sent
        calls = [w.actor.train.remote(first, last) for w in self._workers]
        with self._watching(calls):
            arriving = self._plan.profile.between[-1]
            train_segment(self._head, self._group, self._feed, arriving, first, last, on_step)
            blocks = self._all_of(calls)
        here = SegmentStats(
            perf_counter() - start, self._group.wait_s - waited, self._group.bytes_sent - sent
        )
        self._newest = [*blocks, here]
        self._all = [a + b for a, b in zip(self._all, self._newest, strict=True)]

    def outputs(self, splits: Splits) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (head output, target) of the whole test data, run through the same pipeline."""
        data, sizes = test_parts(splits)
        calls = [w.actor.evaluate.remote(sizes) for w in self._workers]
        with self._watching(calls):
            arriving = self._plan.profile.between[-1]
            yield from evaluate_segment(self._head, self._group, arriving, data, sizes)
            self._all_of(calls)

    def save(self, folder: Path) -> list[StateFile]:
        """Let every worker write its layers, all at once; write the head."""
        calls = [w.actor.save.remote(folder) for w in self._workers]
        head = write_state(self._head, folder)
        return [file for files in self._all_of(calls) for file in files] + [head]

    def load(self, folder: Path) -> None:
        """Let every worker take its layers' state from the folder; take the head's."""
        calls = [w.actor.load.remote(folder) for w in self._workers]
        self._head.load_state(*read_state(folder, self._head.name))
        self._all_of(calls)

    def diagnosis(self) -> str | None:
        """Ask the workers, in the order of the layers, who holds a NaN or infinity."""
        try:
            calls = [w.actor.first_non_finite.remote() for w in self._workers]
            found = ray.get(calls, timeout=_ABORT_S)
        except RayError:
            return None
        return next((layer for layer in found if layer), f"{self._head.label} or the loss")

    def report(self) -> list[dict[str, Any]]:
        """Return a row a block and one for the coordinator."""
        return self._rows(self._all)

    def loads(self) -> list[dict[str, Any]]:
        """Return the same of the newest segment alone."""
        return self._rows(self._newest)

    def trace(self) -> None:
        """Let the workers and the head note what they compute."""
        self._all_of([w.actor.trace.remote() for w in self._workers])
        self._head = TracedHead(self._head)

    def spans(self) -> list[list[Span]]:
        """End the tracing; return the spans of each block, then those of the head."""
        rows: list[list[Span]] = self._all_of([w.actor.spans.remote() for w in self._workers])
        if isinstance(self._head, TracedHead):
            rows.append(self._head.spans)
            self._head = self._head.untraced
        return rows

    def close(self) -> None:
        """Leave the group."""
        self._abort()

    def _rows(self, stats: Sequence[SegmentStats]) -> list[dict[str, Any]]:
        held = [(f"block {k}", layers) for k, layers in enumerate(self._plan.held(), start=1)]
        return [
            {
                "process": process,
                "layers": layers,
                "busy": max(0.0, 1 - one.waiting_s / one.seconds) if one.seconds else 0.0,
                "waiting": min(1.0, one.waiting_s / one.seconds) if one.seconds else 0.0,
                "bytes_sent": one.bytes_sent,
            }
            for (process, layers), one in zip([*held, ("coordinator", "head")], stats, strict=True)
        ]

    def _meet(self, timeout_s: float) -> Group:
        """Open the store on one address alone, and join all ranks."""
        host = meeting_host(self._workers)
        listener = listen(host)
        port, world = listener.getsockname()[1], len(self._workers) + 1
        store = open_store(host, port, world, listener)
        meeting = Meeting(host, port, world, timeout_s)
        calls = [
            worker.actor.join.remote(meeting, self._plan.wiring(block))
            for block, worker in enumerate(self._workers, start=1)
        ]
        group = Group(store, 0, world, host, timeout_s)
        self._all_of(calls)
        return group

    @contextmanager
    def _watching(self, calls: list[Any]) -> Iterator[None]:
        """Abort the whole group as soon as one call fails, and raise the failure's true cause.

        Only the direct peers of a dead process see it in gloo; Ray tells us, and we tell the rest.
        """
        done = threading.Event()

        def watch() -> None:
            pending = list(calls)
            while pending and not done.is_set():
                ready, pending = ray.wait(pending, num_returns=1, timeout=0.5)
                if any(_failure(call) is not None for call in ready):
                    self._abort()
                    return

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            yield
        except GroupLeft as error:
            self._abort()
            raise self._cause(calls, error) from error
        except BaseException:
            self._abort()
            ray.wait(calls, num_returns=len(calls), timeout=_ABORT_S)
            raise
        finally:
            done.set()
            watcher.join()

    def _abort(self) -> None:
        self._group.abort()
        for worker in self._workers:
            worker.actor.abort.remote()

    def _cause(self, calls: list[Any], seen: GroupLeft) -> Exception:
        """Return why the group broke: a broken connection is only how the others noticed."""
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=_ABORT_S)
        failures = {
            block: _failure(call) for block, call in enumerate(calls, start=1) if call in ready
        }
        for block, failure in failures.items():
            if isinstance(failure, RayActorError):
                return self._died(block)
        for failure in failures.values():
            if failure is not None and not isinstance(failure, GroupLeft):
                return failure
        missing = [str(block) for block in range(1, len(calls) + 1) if block not in failures]
        if missing:
            return TrainingFailed(
                f"block {', '.join(missing)} hangs: no answer within the deadline"
            )
        return TrainingFailed(f"the connection between the workers broke: {seen}")

    def _died(self, block: int) -> WorkerDied:
        process = self._workers[block - 1].process
        return WorkerDied(f"the worker of block {block} (process {process}) died")

    def _all_of(self, calls: list[Any]) -> list[Any]:
        """Return the results of all calls, or raise the first failure as itself."""
        for block, call in enumerate(calls, start=1):
            failure = _failure(call)
            if isinstance(failure, RayActorError):
                raise self._died(block) from failure
            if failure is not None:
                raise failure
        results: list[Any] = ray.get(calls)
        return results


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
