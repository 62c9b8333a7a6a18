"""What flows between ranks: activations forward, the global error to everyone.

Receives are posted before they are needed, into buffers that are used again; a message is then
already there when its turn comes.
"""

from collections import deque
from collections.abc import Sequence

from torch import Tensor

from dfa_core import SampleSpec
from workers.group import Group, Transfer


class Inbox:
    """Activations from one rank, in order, into `slots` buffers used in turn.

    take() gives the next message; its buffer is the caller's until release(), called in the same
    order, which posts the receive of a later message into it.
    """

    def __init__(
        self, group: Group, source: int, spec: SampleSpec, sizes: Sequence[int], slots: int
    ) -> None:
        """sizes: samples of each message to come."""
        self._group, self._source, self._sizes = group, source, sizes
        largest = max(sizes, default=0)
        self._buffers = [spec.empty(largest) for _ in range(min(slots, len(sizes)))]
        self._posted: deque[Transfer] = deque()
        self._next = 0
        for _ in self._buffers:
            self.release()

    def take(self) -> Tensor:
        """Wait for the next message and return it."""
        return self._posted.popleft().wait()

    def release(self) -> None:
        """Give the oldest buffer back, for a message still to come if there is one."""
        if self._next < len(self._sizes):
            buffer = self._buffers[self._next % len(self._buffers)]
            part = buffer[: self._sizes[self._next]]
            self._posted.append(self._group.receive(part, self._source))
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

    def __init__(self, group: Group, spec: SampleSpec, samples: int, messages: int) -> None:
        self._group, self._left = group, messages
        self._posted: deque[Transfer] = deque()
        for _ in range(self._AHEAD):
            self.release(spec.empty(samples))

    def take(self) -> Tensor:
        """Wait for the next global error and return it; give it back with release()."""
        return self._posted.popleft().wait()

    def release(self, buffer: Tensor) -> None:
        """Let a later error arrive in this buffer."""
        if self._left > 0:
            self._left -= 1
            self._posted.append(self._group.broadcast(buffer))
