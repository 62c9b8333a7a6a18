"""Messages between ranks: activations to the next block, the global error to all blocks.

Receives are posted before they are needed, into buffers that are reused, so that a message has
usually arrived by the time it is taken.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor

from dfa_core import TensorSpec
from workers.group import Group, Read, Transfer


class Inbox:
    """Receives activations from one rank, in order, into `slots` buffers in turn.

    take() returns the next message. It stays valid until release(), which posts the receive of a
    later message into its buffer; messages are released in the order in which they were taken.
    """

    def __init__(
        self, group: Group, source: int, spec: TensorSpec, sizes: Sequence[int], slots: int
    ) -> None:
        """sizes: samples of each message to come."""
        self._group, self._source, self._sizes = group, source, sizes
        largest = max(sizes, default=0)
        self._buffers = [group.buffer(spec, largest) for _ in range(min(slots, len(sizes)))]
        self._posted: deque[Transfer] = deque()
        self._read: deque[Read | None] = deque()
        self._next = 0
        for _ in self._buffers:
            self._post(None)

    def take(self) -> Tensor:
        """Wait for the next message and return it, on the rank's device."""
        message, read = self._group.on_device(self._posted.popleft().wait())
        self._read.append(read)
        return message

    def release(self) -> None:
        """Reuse the oldest taken buffer for a later message, if there is one."""
        self._post(self._read.popleft())

    def _post(self, read: Read | None) -> None:
        if self._next < len(self._sizes):
            buffer = self._buffers[self._next % len(self._buffers)]
            into = buffer[: self._sizes[self._next]]
            self._posted.append(self._group.receive(into, self._source, read))
            self._next += 1


class Outbox:
    """Sends messages in order to one rank, or (the global error) from rank 0 to all."""

    def __init__(self, group: Group, to: int | None) -> None:
        """to: the receiving rank; None broadcasts."""
        self._group, self._to = group, to
        self._sent: deque[Transfer] = deque()

    def send(self, message: Tensor) -> None:
        """Start to send, and keep the tensor until the transfer is over."""
        message = message.contiguous()
        if self._to is None:
            self._sent.append(self._group.broadcast(message))
        else:
            self._sent.append(self._group.send(message, self._to))

    def keep(self, at_most: int) -> None:
        """Wait until at most this many messages are under way."""
        while len(self._sent) > at_most:
            self._sent.popleft().wait()


class ErrorInbox:
    """A block's end of the broadcast; posts two receives ahead, as many as gloo runs at once."""

    _AHEAD = 2

    def __init__(self, group: Group, spec: TensorSpec, samples: int, messages: int) -> None:
        self._group, self._left = group, messages
        self._posted: deque[Transfer] = deque()
        self._taken: deque[tuple[Tensor, Read | None]] = deque()
        for _ in range(self._AHEAD):
            self._post(group.buffer(spec, samples), None)

    def take(self) -> Tensor:
        """Wait for the next global error and return it, on the rank's device."""
        buffer = self._posted.popleft().wait()
        error, read = self._group.on_device(buffer)
        self._taken.append((buffer, read))
        return error

    def release(self) -> None:
        """Reuse the oldest taken buffer for a later error, if there is one."""
        self._post(*self._taken.popleft())

    def _post(self, buffer: Tensor, read: Read | None) -> None:
        if self._left > 0:
            self._left -= 1
            self._posted.append(self._group.broadcast(buffer, read))
