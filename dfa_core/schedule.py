"""One forward, one update: what each block does in a step, as a pure function.

Blocks K = 2, microbatches M = 4; F = forward, U = update, S = optimizer step; each column is one
unit of time, with update time u equal to forward time f and the error's trip hidden:

    block 1   F0 F1 F2 U0 F3 U1 U2 U3 S  F0 F1 ...
    block 2      F0 F1 U0 F2 U1 F3 U2 U3 S  F0 ...

The first error is back after K forwards; from then on a block takes one update for each forward,
and goes from the last update of a step straight on to the next step: with M >= K + 1 no block ever
waits, and a step costs M (f + u).
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


def in_flight(block: int, blocks: int, microbatches: int) -> int:
    """Return how many microbatches may wait for their error at `block` (1..K): K - k + 2 at most.

    One more than 1F1B allows: it hides the trip of the error.
    """
    return min(microbatches, blocks - block + 2)


def block_actions(block: int, blocks: int, microbatches: int) -> Iterator[Action]:
    """Yield the actions of one step at `block` (1..K), in order."""
    ahead = in_flight(block, blocks, microbatches)
    for microbatch in range(ahead):
        yield Forward(microbatch)
    for microbatch in range(microbatches):
        yield Update(microbatch)
        if microbatch + ahead < microbatches:
            yield Forward(microbatch + ahead)
    yield Step()
