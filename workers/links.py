"""What flows between ranks: activations forward, the global error to everyone.

Receives are posted before they are needed, into buffers that are used again; a message is then
already there when its turn comes.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor

from dfa_core import TensorSpec
from workers.group import Group, Read, Transfer


class Inbox:
    """Activations from one rank, in order, into `slots` buffers used in turn.

    take() gives the next message; it is the caller's until release(), called in the same order,
    which posts the receive of a later message into its buffer.
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
        """Give the oldest buffer back, for a message still to come if there is one."""
        self._post(self._read.popleft())

    def _post(self, read: Read | None) -> None:
        if self._next < len(self._sizes):
            buffer = self._buffers[self._next % len(self._buffers)]
            part = buffer[: self._sizes[self._next]]
            self._posted.append(self._group.receive(part, self._source, read))
            self._next += 1


class Outbox:
    """Messages in order to one rank, or (the global error) from rank 0 to all."""

    def __init__(self, group: Group, to: int | None) -> None:
        """to: the receiving rank; None broadcasts."""
        self._group, self._to = group, to
        self._sent: deque[Transfer] = deque()

    def send(self, message: Tensor) -> None:
        """Start to send, and keep the tensor until it is through."""
        message = message.contiguous()
        if self._to is None:
            self._sent.append(self._group.broadcast(message))
        else:
            self._sent.append(self._group.send(message, self._to))

    def keep(self, at_most: int) -> None:
        """Wait until no more than this many messages are under way."""
        while len(self._sent) > at_most:
            self._sent.popleft().wait()


class ErrorInbox:
    """A block's end of the broadcast: two are posted ahead, which is what gloo works on at once."""

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
        """Let a later error arrive where the oldest one taken is."""
        self._post(*self._taken.popleft())

    def _post(self, buffer: Tensor, read: Read | None) -> None:
        if self._left > 0:
            self._left -= 1
            self._posted.append(self._group.broadcast(buffer, read))
