"""One forward, one update: the actions of each block in a segment, as a pure function.

Example with K = 2 blocks and M = 4 microbatches. F is a forward, U an update, S an optimizer step.
Each column is one unit of time; an update takes as long as a forward (u = f), and the time that
the error travels is hidden:

    block 1   F0 F1 F2 U0 F3 U1 U2 U3 S  F0 F1 ...
    block 2      F0 F1 F2 U0 F3 U1 U2 U3 S  F0 ...

The first error arrives after K forwards. From then on a block does one update for each forward, and
continues from the last update of a step to the next step without a pause. With M >= K + 1 no block
ever waits, and a step costs M (f + u).

All blocks run equally far ahead. In 1F1B the bound shrinks towards the last block. That keeps fewer
activations, but the last block would then do updates, which nobody waits for, before forwards,
whose errors all blocks wait for: a step would cost about K - 2 units more (19% at K = 8, M = 16).

Delayed mode, staleness s > 0, is for M < K + 1: the optimizer step of step t comes after the
forwards of step t + s, so that s steps can be in flight (K = 2, M = 1, s = 2; the digit is the
step):

    block 1   F0 F1 F2 U0 S0 F3 U1 S1 F4 ...
    block 2      F0 F1 F2 U0 S0 F3 U1 S1 ...

This is another algorithm (gradients are s steps old), but equally exact and reproducible. Steps
that are still open at the end of a segment pass their gradients on to the next segment; no message
of theirs is still under way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True)
class Forward:
    """Receive the activations of a microbatch, run the layers, send the result on."""

    step: int
    microbatch: int


@dataclass(frozen=True)
class Update:
    """Receive the global error of a microbatch and add the local gradients."""

    step: int
    microbatch: int


@dataclass(frozen=True)
class Step:
    """Take the optimizer step: the gradients of all microbatches have been added."""

    step: int


@dataclass(frozen=True)
class InputGradients:
    """Receive the gradient of a microbatch's output, send on that of its input (`bp` alone)."""

    step: int
    microbatch: int


@dataclass(frozen=True)
class WeightGradients:
    """Add the weights' gradients of a microbatch whose input gradients were sent on."""

    step: int
    microbatch: int


Action = Forward | Update | InputGradients | WeightGradients | Step


def in_flight(blocks: int, microbatches: int, staleness: int = 0, away: float = 0.0) -> int:
    """Return how many microbatches may wait for their error at a block.

    K fill the pipeline, and one more hides a short time between the last block and the error. Where
    that is longer, more must wait.

    away: as away() returns it.
    """
    return min(microbatches * (staleness + 1), blocks + max(1, ceil(away)))


def away(blocks: int, hop: float, head: float, of_block: float) -> float:
    """Return how many microbatches more must wait for messages and for the head.

    At the start of a step a block does forwards meanwhile, each about half of its work on a
    microbatch.

    hop: seconds of a message between two processes: there are K, and a broadcast along a tree.
    head: seconds of the head for a microbatch. of_block: seconds of a forward and an update.
    """
    messages = (blocks + ceil(log2(blocks + 1))) * hop
    return 2 * (messages + head) / max(of_block, 1e-9)


def head_of(microbatch: int, heads: int) -> int:
    """Return which of the heads of a replica, from 0, computes one of its microbatches.

    microbatch: its number among those of a step in the replica. heads: workers that host the head
    alone; without any, all microbatches go to one head.
    """
    return microbatch % max(1, heads)


def block_actions(
    blocks: int,
    microbatches: int,
    first: int,
    last: int,
    staleness: int = 0,
    waiting: int | None = None,
) -> Iterator[Action]:
    """Yield the actions of a block for steps first..last-1, in order; all blocks do the same.

    microbatches: of one step in one replica. With staleness s, the optimizer steps are those of
    first-s..last-1-s, without negative ones.
    waiting: microbatches that may wait for their error; by default as in_flight() says.
    """
    ahead = waiting or in_flight(blocks, microbatches, staleness)
    end = (last - first) * microbatches
    forwards = updates = 0
    next_step = first - staleness  # the next optimizer step
    while updates < end or next_step < last - staleness:
        forwarded = first + forwards // microbatches  # all forwards of earlier steps are done
        updated = first + updates // microbatches
        if next_step < min(updated, forwarded - staleness):
            if next_step >= 0:
                yield Step(next_step)
            next_step += 1
        elif forwards < end and forwards - updates < ahead and forwarded <= next_step + staleness:
            yield Forward(forwarded, forwards % microbatches)
            forwards += 1
        else:
            yield Update(updated, updates % microbatches)
            updates += 1


def forwards_only(microbatches: int, first: int, last: int) -> Iterator[Action]:
    """Yield the actions of a block that learns nothing, for steps first..last-1."""
    for step in range(first, last):
        for microbatch in range(microbatches):
            yield Forward(step, microbatch)
        yield Step(step)
