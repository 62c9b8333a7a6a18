"""Wakes whoever waits for news of a job."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class JobNotifier:
    """One for all jobs; a listener that was woken looks for itself what is new."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, job_id: str) -> None:
        """Wake all listeners of a job."""
        for listener in self._listeners.get(job_id, ()):
            listener.set()

    def ring_all(self) -> None:
        """Wake all listeners."""
        for job_id in list(self._listeners):
            self.ring(job_id)

    @contextmanager
    def listener(self, job_id: str) -> Iterator[asyncio.Event]:
        """Have an event that is set at each ring, inside the block."""
        listener = asyncio.Event()
        self._listeners[job_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[job_id].discard(listener)
            if not self._listeners[job_id]:
                del self._listeners[job_id]
