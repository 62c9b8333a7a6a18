"""What rank 0 has in a segment: its part of the job, its links with the blocks, and the feed."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.waits import Waits
from dfa_core import ActivationSpec, Head, LearningRule, TensorSpec
from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch
from dfa_core.signals import known_before_forward, message, of_target
from workers.groups.group import Group
from workers.links import Outbox
from workers.trace import Tracer


@dataclass(frozen=True)
class Rank0:
    """What rank 0 works with in all segments.

    head: where the coordinator computes it; otherwise workers host it.
    loss: with the weight of its mean.
    prefetcher: makes the microbatches.
    arriving: what the last block sends: activations, or the head's output.
    error: the global error, before it is encoded.
    waits: reports when data are slow.
    waiting: microbatches that may wait for their error at a block.
    """

    head: Head | None
    rule: LearningRule
    loss: WeightedLoss
    prefetcher: Prefetcher
    arriving: ActivationSpec
    error: TensorSpec
    tracer: Tracer
    waits: Waits
    waiting: int

    @property
    def ahead(self) -> int:
        """Return how many microbatches to send ahead: as many as block 1 has receives posted."""
        return self.waiting + 2


@dataclass(frozen=True)
class ReplicaGroups:
    """Rank 0's groups with the workers of one replica: all blocks, and each host of the head."""

    blocks: Group
    heads: tuple[Group, ...] = ()


class ReplicaLinks:
    """Rank 0's links with the blocks of one replica."""

    def __init__(self, group: Group) -> None:
        self.inputs = Outbox(group, to=1)
        self.errors = Outbox(group, to=None)


class Feed:
    """Sends the microbatches of a segment to the replicas in turn; keeps each until it is taken.

    Where the broadcast is known from the target alone, it is sent with the microbatch.
    """

    def __init__(self, rank0: Rank0, all_links: Sequence[ReplicaLinks], steps: range) -> None:
        self._rule, self._error, self._waits = rank0.rule, rank0.error, rank0.waits
        self._coming = rank0.prefetcher.microbatches(steps.start, steps.stop, rank0.loss)
        first = steps.start * self._rule.microbatches
        self._numbers = iter(range(first, steps.stop * self._rule.microbatches))
        self._links = cycle(all_links)
        self._sent: deque[Microbatch] = deque()

    def send_next(self) -> Microbatch | None:
        """Send one more microbatch, if there is one, and return it."""
        number = next(self._numbers, None)
        if number is None:
            return None
        step, microbatch = divmod(number, self._rule.microbatches)
        with self._waits.on("the data", f"of step {step}"):
            coming = next(self._coming)
        links = next(self._links)
        links.inputs.send(coming.x)
        self._sent.append(coming)
        if known_before_forward(self._rule):
            signal = of_target(coming.target, self._error, self._rule)
            links.errors.send(message(signal, self._rule, step, microbatch))
        return coming

    def take(self) -> Microbatch:
        """Return the oldest microbatch that was not taken yet."""
        return self._sent.popleft()
