"""Messages between ranks: activations to the next block, the global error to all blocks.

Receives are posted before they are needed, so that a message has usually arrived by the time it is
taken. A message that was taken belongs to the taker, who may keep it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import cycle

from torch import Tensor

from dfa_core import TensorSpec
from workers.groups.group import Group, Transfer


def under_way(blocks: int, waiting: int) -> int:
    """Return how many messages may be under way from one rank to another: more on a slow link.

    waiting: microbatches that may wait for their error at a block.
    """
    return max(3, waiting - blocks + 2)


class Inbox:
    """Receives messages in order from one rank, or what rank 0 broadcasts (the global error)."""

    def __init__(
        self, group: Group, source: int | None, spec: TensorSpec, sizes: Sequence[int], slots: int
    ) -> None:
        """source: the sending rank; None: the broadcasts. sizes: samples of each message to come.

        slots: messages that are under way, at most; of broadcasts no more than the group runs at
            once.
        """
        self._group, self._source, self._spec = group, source, spec
        self._sizes = iter(sizes)
        self._new_tensor = group.receiving()
        self._posted: deque[Transfer] = deque()
        for _ in range(slots if source is not None else min(slots, group.broadcasts)):
            self.release()

    def take(self) -> Tensor:
        """Wait for the next message and return it, on the rank's device."""
        return self._group.on_device(self._posted.popleft().wait())

    def release(self) -> None:
        """Let one more message come, if there is one: a taken one was worked off."""
        samples = next(self._sizes, None)
        if samples is not None:
            into = self._new_tensor(self._spec, samples)
            if self._source is None:
                self._posted.append(self._group.broadcast(into))
            else:
                self._posted.append(self._group.receive(into, self._source))

    def finish(self) -> None:
        """Do nothing: the last message was taken."""


class Outbox:
    """Sends messages in order to one rank, or (the global error) from rank 0 to all."""

    def __init__(self, group: Group, to: int | None) -> None:
        """to: the receiving rank; None broadcasts."""
        self._group, self._to = group, to
        self._sent: deque[Transfer] = deque()

    def send(self, message: Tensor) -> None:
        """Start to send. The message is the outbox's from now on: nobody may change it."""
        message = message.contiguous()
        if self._to is None:
            self._sent.append(self._group.broadcast(message))
        else:
            self._sent.append(self._group.send(message, self._to))

    def keep(self, at_most: int) -> None:
        """Wait until at most this many messages are under way."""
        while len(self._sent) > at_most:
            self._sent.popleft().wait()

    def finish(self) -> None:
        """Wait until all messages have been taken by the receiver."""
        self.keep(at_most=0)


class OutboxesInTurn:
    """Several outboxes as one: its messages go to them in turn."""

    def __init__(self, boxes: Sequence[Outbox], turns: Iterable[int]) -> None:
        """turns: the index of the outbox that each message goes to, again and again."""
        self._boxes, self._turns = boxes, cycle(turns)

    def send(self, message: Tensor) -> None:
        """Start to send to the outbox whose turn it is."""
        self._boxes[next(self._turns)].send(message)

    def keep(self, at_most: int) -> None:
        """Wait until at most this many messages of each are under way."""
        for box in self._boxes:
            box.keep(at_most)

    def finish(self) -> None:
        """Wait until all messages have been taken by their receivers."""
        self.keep(at_most=0)


class InboxesInTurn:
    """Several inboxes as one: its messages come from them in turn."""

    def __init__(self, boxes: Sequence[Inbox], turns: Iterable[int]) -> None:
        """turns: the index of the inbox that each message comes from, again and again."""
        order = tuple(turns)
        self._boxes, self._taking, self._releasing = boxes, cycle(order), cycle(order)

    def take(self) -> Tensor:
        """Wait for the next message of the inbox whose turn it is, and return it."""
        return self._boxes[next(self._taking)].take()

    def release(self) -> None:
        """Let one more message come where the oldest taken one came from."""
        self._boxes[next(self._releasing)].release()
