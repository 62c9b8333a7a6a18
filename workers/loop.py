"""A block's loop: forwards and local updates of one segment, as the schedule orders them."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from dfa_core import (
    ActivationSpec,
    Block,
    ErrorFormat,
    Forward,
    Step,
    TensorSpec,
    Update,
    block_actions,
    in_flight,
)
from workers.group import Group
from workers.links import ErrorInbox, Inbox, Outbox
from workers.replicas import ReplicaSum


@dataclass(frozen=True)
class StageContext:
    """Where a block stands in the pipeline and what flows through it.

    block: k of K, which is also its rank; samples: of one microbatch; arriving, leaving: the
    activations that enter the block and that it sends on; error: the global error, and how it is
    sent.
    replica: r of R, from 0; microbatches: of a step in each replica. The batch's microbatch number
    g goes to replica g mod R.
    """

    block: int
    blocks: int
    microbatches: int
    staleness: int
    samples: int
    arriving: ActivationSpec
    leaving: ActivationSpec
    error: TensorSpec
    sent_as: ErrorFormat
    replica: int = 0
    replicas: int = 1

    def microbatch(self, of_replica: int) -> int:
        """Return which of the whole batch's microbatches this replica's is."""
        return of_replica * self.replicas + self.replica


@dataclass(frozen=True)
class SegmentStats:
    """What a block did in a segment: seconds in all, of them waiting for messages; bytes sent.

    snapshot_s: by how much a snapshot put the segment off; left_out: (step, layer) whose batch
    changed nothing there, for its gradient was not finite.
    """

    seconds: float
    waiting_s: float
    bytes_sent: int
    snapshot_s: float = 0.0
    skipped: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: "SegmentStats") -> "SegmentStats":
        return SegmentStats(
            self.seconds + other.seconds,
            self.waiting_s + other.waiting_s,
            self.bytes_sent + other.bytes_sent,
            self.snapshot_s + other.snapshot_s,
        )


class Meter:
    """Measures what a rank does in a segment, from when it is made."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """groups: all that the rank is in."""
        self._groups = groups
        self._start, self._waited, self._sent = perf_counter(), *self._so_far()

    def read(self) -> SegmentStats:
        """Return what was done since."""
        waited, sent = self._so_far()
        seconds = perf_counter() - self._start
        return SegmentStats(seconds, waited - self._waited, sent - self._sent)

    def _so_far(self) -> tuple[float, int]:
        return sum(g.wait_s for g in self._groups), sum(g.bytes_sent for g in self._groups)


def train_segment(
    block: Block,
    group: Group,
    replicas: ReplicaSum | None,
    stage: StageContext,
    first: int,
    last: int,
) -> None:
    """Train steps first..last-1: everything a block does between two events.

    group: of the coordinator and the blocks of this replica; replicas: None where there is but one.
    """
    k, blocks, microbatches = stage.block, stage.blocks, stage.microbatches
    messages = (last - first) * microbatches
    waiting = in_flight(blocks, microbatches, stage.staleness)

    arriving, sizes = stage.arriving, [stage.samples] * messages
    inputs = Inbox(group, k - 1, arriving.message, sizes, slots=waiting + 2)
    outputs = Outbox(group, (k + 1) % (blocks + 1))
    form, error = stage.sent_as, stage.error
    errors = ErrorInbox(group, form.message(error), stage.samples, messages)

    for action in block_actions(blocks, microbatches, first, last, stage.staleness):
        match action:
            case Forward(step, m):
                x = arriving.unpack(inputs.take())
                h = block.forward(x, step, stage.microbatch(m))
                outputs.send(stage.leaving.pack(h))
            case Update(step, m):
                e = form.decode(errors.take(), error)
                each = replicas.begin if replicas and m == microbatches - 1 else None
                block.update(e, step, stage.microbatch(m), each)
                errors.release()
                inputs.release()
                outputs.keep(at_most=waiting)
            case Step(step):
                block.step(step, replicas.end if replicas else None)
    outputs.keep(at_most=0)
    if replicas:
        replicas.finish()


def evaluate_segment(block: Block, group: Group, stage: StageContext, sizes: Sequence[int]) -> None:
    """Run parts of these sizes forward through the block, in evaluation mode."""
    arriving = stage.arriving
    inputs = Inbox(group, stage.block - 1, arriving.message, sizes, slots=2)
    outputs = Outbox(group, (stage.block + 1) % (stage.blocks + 1))
    for _ in sizes:
        x = arriving.unpack(inputs.take())
        outputs.send(stage.leaving.pack(block.evaluate(x)))
        inputs.release()
        outputs.keep(at_most=2)
    outputs.keep(at_most=0)
