"""One forward, one update: what each block does in a step, as a pure function.

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
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Forward:
    """Take the activations of a microbatch, run the layers, send the result on."""

    microbatch: int


@dataclass(frozen=True)
class Update:
    """Take the global error of a microbatch and add the local gradients."""

    microbatch: int


@dataclass(frozen=True)
class Step:
    """Take the optimizer step: all microbatches of the batch have been added."""


Action = Forward | Update | Step


def in_flight(blocks: int, microbatches: int) -> int:
    """Return how many microbatches may wait for their error at a block: K + 1 at most.

    K fill the pipeline; one more hides the trip of the error.
    """
    return min(microbatches, blocks + 1)


def block_actions(blocks: int, microbatches: int) -> Iterator[Action]:
    """Yield the actions of one step at a block, in order; all blocks do the same."""
    ahead = in_flight(blocks, microbatches)
    for microbatch in range(ahead):
        yield Forward(microbatch)
    for microbatch in range(microbatches):
        yield Update(microbatch)
        if microbatch + ahead < microbatches:
            yield Forward(microbatch + ahead)
    yield Step()
