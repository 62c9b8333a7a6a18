"""Wakes the calls that wait for news of a job."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class JobNotifier:
    """Serves all jobs; a listener that wakes reads from the store what is new."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, job_id: str) -> None:
        """Wake all listeners of a job."""
        for listener in self._listeners.get(job_id, ()):
            listener.set()

    def notify_all(self) -> None:
        """Wake all listeners."""
        for job_id in list(self._listeners):
            self.notify(job_id)

    @contextmanager
    def listener(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give, inside the block, an asyncio event that each notification sets."""
        listener = asyncio.Event()
        self._listeners[job_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[job_id].discard(listener)
            if not self._listeners[job_id]:
                del self._listeners[job_id]
