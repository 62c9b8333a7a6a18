"""What rank 0 has in a segment: its part of the job, its links with the blocks, and the feed."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.data.read_by_blocks import read_by_blocks
from coordinator.engine.plan import Plan
from coordinator.engine.waits import Waits
from dfa_core import ActivationSpec, Head, LearningRule, TensorSpec
from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch
from dfa_core.signals import known_before_forward, message, of_target
from workers.groups.group import Group
from workers.links import Outbox
from workers.reading.own_inputs import steps_ahead
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
    target: of a sample, where the first block of each replica reads the data.
    blocks_learn: whether any layer does.
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
    target: TensorSpec | None = None
    blocks_learn: bool = True

    @classmethod
    def of(cls, plan: Plan, head: Head | None, prefetcher: Prefetcher, waits: Waits) -> "Rank0":
        """Return rank 0's part of a plan."""
        profile = plan.profile
        return cls(
            head=head,
            rule=plan.rule,
            loss=profile.loss,
            prefetcher=prefetcher,
            arriving=profile.between[-1],
            error=profile.error,
            tracer=Tracer(),
            waits=waits,
            waiting=plan.waiting(),
            target=profile.target if plan.readers else None,
            blocks_learn=profile.learns,
        )

    @property
    def ahead(self) -> int:
        """Return how many microbatches to send ahead: as many as block 1 has receives posted."""
        return self.waiting + 2


@dataclass(frozen=True)
class ReplicaGroups:
    """Rank 0's groups with the workers of one replica: all blocks, and each host of the head.

    data: with the first block, if it reads the replica's data.
    """

    blocks: Group
    heads: tuple[Group, ...] = ()
    data: Group | None = None


class ReplicaLinks:
    """Rank 0's links with the blocks of one replica."""

    def __init__(self, group: Group, rule: LearningRule) -> None:
        self.inputs = Outbox(group, to=1)
        # a single block gets inputs from here, too: these and gradients must not mix
        last = group.world - 1 if rule.method == "bp" and group.world > 2 else None
        self.signals = Outbox(group, to=last)


class Feed:
    """Sends the microbatches of a segment to the replicas in turn; keeps each until it is taken.

    Where blocks read the data themselves, they send the targets, and no inputs are sent.
    Where the broadcast is known from the target alone, it is sent with the microbatch.
    """

    def __init__(
        self,
        rank0: Rank0,
        groups: Sequence[ReplicaGroups],
        all_links: Sequence[ReplicaLinks],
        steps: range,
    ) -> None:
        self._rule, self._error = rank0.rule, rank0.error
        self._waits, self._sends_inputs = rank0.waits, rank0.target is None
        if rank0.target is None:
            self._coming = rank0.prefetcher.microbatches(steps.start, steps.stop, rank0.loss)
        else:
            self._coming = _read_by_blocks(rank0, rank0.target, groups, len(steps))
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
        # blocks that read measure it themselves: rank 0 also waits until they need the data
        who = "the data" if self._sends_inputs else "the blocks' data"
        with self._waits.on(who, f"of step {step}"):
            coming = next(self._coming)
        links = next(self._links)
        if self._sends_inputs:
            links.inputs.send(coming.x)
        self._sent.append(coming)
        if known_before_forward(self._rule):
            signal = of_target(coming.target, self._error, self._rule)
            links.signals.send(message(signal, self._rule, step, microbatch))
        return coming

    def take(self) -> Microbatch:
        """Return the oldest microbatch that was not taken yet."""
        return self._sent.popleft()


def _read_by_blocks(
    rank0: Rank0, target: TensorSpec, groups: Sequence[ReplicaGroups], steps: int
) -> Iterator[Microbatch]:
    microbatches = rank0.rule.microbatches
    ahead = 1 + steps_ahead(rank0.waiting, microbatches // len(groups))
    of_data = [group.data for group in groups if group.data is not None]
    samples = rank0.prefetcher.samples
    return read_by_blocks(of_data, target, samples, microbatches, steps, ahead, rank0.loss)
