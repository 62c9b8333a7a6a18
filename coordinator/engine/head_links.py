"""Rank 0's links with the workers that host the head, and with those that outputs come from."""

from collections.abc import Sequence

from coordinator.engine.rank0 import ReplicaGroups
from dfa_core import ActivationSpec
from dfa_core.schedule import head_of
from workers.heads.target_message import LOSS
from workers.links import Inbox, InboxesInTurn, Outbox, OutboxesInTurn


class HeadLinks:
    """The targets that rank 0 sends to the hosts of the head, and the losses that come back.

    targets: takes those of all microbatches in their order.
    """

    def __init__(self, groups: Sequence[ReplicaGroups], microbatches: int, steps: int) -> None:
        """groups: of each replica. microbatches: of a batch."""
        replicas, heads = len(groups), len(groups[0].heads)
        hosts = [group for of_replica in groups for group in of_replica.heads]
        self._turns = [
            (g % replicas) * heads + head_of(g // replicas, heads) for g in range(microbatches)
        ]
        self.targets = OutboxesInTurn([Outbox(host, to=1) for host in hosts], self._turns)
        counts = [self._turns.count(host) for host in range(len(hosts))]
        self._losses = [
            Inbox(host, 1, LOSS, [count] * steps, slots=2)
            for host, count in zip(hosts, counts, strict=True)
        ]

    def losses(self) -> list[float]:
        """Wait for the losses of the next step, and return that of each microbatch."""
        each = [iter(inbox.take().tolist()) for inbox in self._losses]
        for inbox in self._losses:
            inbox.release()
        return [next(each[host]) for host in self._turns]


def outputs_of(
    groups: ReplicaGroups, arriving: ActivationSpec, sizes: Sequence[int], slots: int
) -> Inbox | InboxesInTurn:
    """Return where a replica's outputs arrive: from the hosts of its head, or from its last block.

    sizes: samples of each message. slots: messages that may be under way from each.
    """
    heads = groups.heads
    if not heads:
        last = groups.blocks.world - 1
        return Inbox(groups.blocks, last, arriving.message, sizes, slots)
    count = len(heads)
    boxes = [
        Inbox(head, 1, arriving.message, sizes[h::count], slots) for h, head in enumerate(heads)
    ]
    return InboxesInTurn(boxes, range(count))
