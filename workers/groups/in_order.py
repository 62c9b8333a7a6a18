"""Runs what must be waited for one after another, on a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from queue import SimpleQueue
from typing import TypeAlias

_Work: TypeAlias = "tuple[Callable[[], object], Future[None]]"


class InOrder:
    """A thread that runs one work after another; it does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        threading.Thread(target=_run_all, args=(self._queue,), name=name, daemon=True).start()

    def ended(self, work: Callable[[], object]) -> Callable[[timedelta], object]:
        """Run this after all work before it.

        Returns a function that waits for its end for so long, and then raises TimeoutError; it
        raises what the work raised.
        """
        end = Future[None]()
        self._queue.put((work, end))
        return lambda seconds: end.result(seconds.total_seconds())

    def close(self) -> None:
        """Stop the thread after the work that it has."""
        self._queue.put(None)


def _run_all(queue: "SimpleQueue[_Work | None]") -> None:
    while (item := queue.get()) is not None:
        work, end = item
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            end.set_exception(error)
        else:
            end.set_result(None)
