"""Counts the open streams of each client."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from coordinator.service.errors import TOO_MUCH, ServiceError


class Streams:
    """The streams that are open now, by the client's address."""

    def __init__(self, most: int) -> None:
        """most: of one client."""
        self._open, self._most = Counter[str](), most

    @contextmanager
    def of(self, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        """Count a stream. Raises ServiceError when there are too many of its client."""
        client = str(context.peer()).rpartition(":")[0]  # the address without the port
        if self._open[client] >= self._most:
            raise ServiceError(TOO_MUCH, f"{self._open[client]} streams of this client are open")
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
