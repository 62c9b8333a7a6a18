"""One forward, one update: what each block does in a segment, as a pure function.

Blocks K = 2, microbatches M = 4; F = forward, U = update, S = optimizer step; each column is one
unit of time, with update time u equal to forward time f and the error's trip hidden:

    block 1   F0 F1 F2 U0 F3 U1 U2 U3 S  F0 F1 ...
    block 2      F0 F1 F2 U0 F3 U1 U2 U3 S  F0 ...

The first error is back after K forwards; from then on a block takes one update for each forward,
and goes from the last update of a step straight on to the next step: with M >= K + 1 no block ever
waits, and a step costs M (f + u).

All blocks run equally far ahead. A bound that shrinks towards the last block, as 1F1B's does, keeps
fewer activations, but makes the last block take updates, which nobody waits for, before forwards,
whose errors all blocks wait for: the step then costs about K - 2 units more (19% at K = 8, M = 16).

Delayed mode, staleness s > 0, for M < K + 1: the optimizer step of step t comes behind the forwards
of step t + s, so that s steps can be in flight (K = 2, M = 1, s = 2; the digit is the step):

    block 1   F0 F1 F2 U0 S0 F3 U1 S1 F4 ...
    block 2      F0 F1 F2 U0 S0 F3 U1 S1 ...

It is another algorithm (gradients s steps old), but as exact and reproducible: the steps that are
still open at the end of a segment leave their gradients, and not their messages, to the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Forward:
    """Take the activations of a microbatch, run the layers, send the result on."""

    step: int
    microbatch: int


@dataclass(frozen=True)
class Update:
    """Take the global error of a microbatch and add the local gradients."""

    step: int
    microbatch: int


@dataclass(frozen=True)
class Step:
    """Take the optimizer step: all microbatches of the batch have been added."""

    step: int


Action = Forward | Update | Step


def in_flight(blocks: int, microbatches: int, staleness: int = 0) -> int:
    """Return how many microbatches may wait for their error at a block: K + 1 at most.

    K fill the pipeline; one more hides the trip of the error.
    """
    return min(microbatches * (staleness + 1), blocks + 1)


def block_actions(
    blocks: int, microbatches: int, first: int, last: int, staleness: int = 0
) -> Iterator[Action]:
    """Yield the actions of steps first..last-1 at a block, in order; all blocks do the same.

    With staleness s, the optimizer steps are those of first-s..last-1-s, from step 0 on.
    """
    ahead, end = in_flight(blocks, microbatches, staleness), (last - first) * microbatches
    forwards = updates = 0
    taken = first - staleness  # the next optimizer step
    while updates < end or taken < last - staleness:
        forwarded = first + forwards // microbatches  # steps below it are forwarded whole
        updated = first + updates // microbatches
        if taken < min(updated, forwarded - staleness):
            if taken >= 0:
                yield Step(taken)
            taken += 1
        elif forwards < end and forwards - updates < ahead and forwarded <= taken + staleness:
            yield Forward(forwarded, forwards % microbatches)
            forwards += 1
        else:
            yield Update(updated, updates % microbatches)
            updates += 1
