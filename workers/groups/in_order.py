"""Runs what must be waited for one after another, on a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

_Result = TypeVar("_Result")
_Work: TypeAlias = "tuple[Callable[[], Any], Future[Any]]"


class InOrder:
    """A thread that runs one work after another; it does not keep the process from ending.

    The threads of an executor would: Python waits for them at its end, and one may wait for ever.
    """

    def __init__(self, name: str) -> None:
        """The thread starts with the first work."""
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._name, self._lock = name, threading.Lock()
        self._started = self._closed = False

    def submit(self, work: Callable[[], _Result]) -> "Future[_Result]":
        """Run this after all work before it; return its result to come.

        Raises RuntimeError after close().
        """
        future = Future[_Result]()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the thread '{self._name}' is closed")
            self._queue.put((work, future))
            if not self._started:
                self._started = True
                run = partial(_run_all, self._queue)
                threading.Thread(target=run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Cancel all work that has not begun, and end the thread after the one that has."""
        with self._lock:
            self._closed = True
            while (item := _next(self._queue)) is not None:
                item[1].cancel()
            self._queue.put(None)


def _next(queue: "SimpleQueue[_Work | None]") -> "_Work | None":
    try:
        return queue.get_nowait()
    except Empty:
        return None


def _run_all(queue: "SimpleQueue[_Work | None]") -> None:
    while (item := queue.get()) is not None:
        work, future = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)
        else:
            future.set_result(result)
        del work, future, item  # what they hold may end a group
