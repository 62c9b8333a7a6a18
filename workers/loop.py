"""A block's loop: forwards and local updates of one segment, as the schedule orders them."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from dfa_core import (
    Block,
    FlowSpec,
    Forward,
    SampleSpec,
    Step,
    Update,
    block_actions,
    in_flight,
    pack,
)
from workers.group import Group
from workers.links import ErrorInbox, Inbox, Outbox


@dataclass(frozen=True)
class Wiring:
    """Where a block stands in the pipeline and what flows through it.

    block: k of K, which is also its rank; samples: of one microbatch; arriving: the
    activations that enter the block; error: the global error.
    """

    block: int
    blocks: int
    microbatches: int
    staleness: int
    samples: int
    arriving: FlowSpec
    error: SampleSpec


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
    left_out: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: "SegmentStats") -> "SegmentStats":
        return SegmentStats(
            self.seconds + other.seconds,
            self.waiting_s + other.waiting_s,
            self.bytes_sent + other.bytes_sent,
            self.snapshot_s + other.snapshot_s,
        )


def train_segment(
    block: Block, group: Group, wiring: Wiring, device: torch.device, first: int, last: int
) -> SegmentStats:
    """Train steps first..last-1: everything a block does between two events."""
    start, waited, sent = perf_counter(), group.wait_s, group.bytes_sent
    k, blocks, microbatches = wiring.block, wiring.blocks, wiring.microbatches
    messages = (last - first) * microbatches
    waiting = in_flight(blocks, microbatches, wiring.staleness)

    arriving, sizes = wiring.arriving, [wiring.samples] * messages
    inputs = Inbox(group, k - 1, arriving.message, sizes, slots=waiting + 2)
    outputs = Outbox(group, (k + 1) % (blocks + 1))
    errors = ErrorInbox(group, wiring.error, wiring.samples, messages)

    for action in block_actions(blocks, microbatches, first, last, wiring.staleness):
        match action:
            case Forward(step, microbatch):
                x = arriving.unpack(inputs.take().to(device))
                h = block.forward(x, step, microbatch)
                outputs.send(pack(h).cpu())
            case Update(step, microbatch):
                e = errors.take()
                block.update(e.to(device), step, microbatch)
                errors.release(e)
                inputs.release()
                outputs.keep(at_most=waiting)
            case Step(step):
                block.step(step)
    outputs.keep(at_most=0)
    return SegmentStats(perf_counter() - start, group.wait_s - waited, group.bytes_sent - sent)


def evaluate_segment(
    block: Block, group: Group, wiring: Wiring, device: torch.device, sizes: Sequence[int]
) -> None:
    """Run parts of these sizes forward through the block, in evaluation mode."""
    arriving = wiring.arriving
    inputs = Inbox(group, wiring.block - 1, arriving.message, sizes, slots=2)
    outputs = Outbox(group, (wiring.block + 1) % (wiring.blocks + 1))
    for _ in sizes:
        x = arriving.unpack(inputs.take().to(device))
        outputs.send(pack(block.evaluate(x)).cpu())
        inputs.release()
        outputs.keep(at_most=2)
    outputs.keep(at_most=0)
