"""Schedules of backpropagation on blocks, as pure functions: 1F1B, and one without most bubbles.

1F1B (one forward, one backward; Narayanan et al. 2019) with K = 2 blocks and M = 4 microbatches. F
is a forward, S an optimizer step. A backward pass has two parts: B, the gradients of the input, for
which the block before waits, and W, those of the weights, for which nobody waits:

    block 1   F0 F1 B0 W0 F2 B1 W1 F3 B2 W2 .. B3 W3 S  F0
    block 2      F0 B0 W0 F1 B1 W1 F2 B2 W2 F3 B3 W3 S  .. ..

Zero bubble (Qi et al. 2023, arXiv 2401.10241) does W where a block would wait otherwise. With 2K -
1 microbatches between F and B at the first block (1F1B has K), hardly a bubble is left once M is 2K
or more:

    block 1   F0 F1 F2 B0 F3 B1 W0 B2 W1 B3 W2 W3 S  F0
    block 2      F0 B0 F1 B1 F2 B2 F3 B3 W0 W1 W2 W3 S  F0

Every block ends a step on its own, and then begins the next one. Delayed mode, staleness s > 0, is
that of schedule.py. With s = 1 and M >= K it is PipeDream-2BW (Narayanan et al. 2020, arXiv
2006.09503), and no block waits between steps.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from dfa_core.schedule import (
    Action,
    Forward,
    InputGradients,
    Step,
    Update,
    WeightGradients,
    block_actions,
)

ExactSchedule = Literal["1f1b", "zero_bubble"]


def waiting_at(block: int, waiting: int) -> int:
    """Return how many microbatches may wait for their gradient at a block, from 1.

    waiting: at the first one; later blocks get theirs sooner.
    """
    return max(1, waiting - (block - 1))


def exact_actions(
    schedule: ExactSchedule,
    block: int,
    blocks: int,
    microbatches: int,
    first: int,
    last: int,
    staleness: int,
    waiting: int,
    head_apart: bool,
) -> Iterator[Action]:
    """Yield the actions of a block, from 1, for steps first..last-1, in order.

    microbatches: of one step in one replica. waiting: those that may wait for their gradient at the
    first block. head_apart: the last block waits for the head, too. Open steps in delayed mode are
    block_actions()'s.
    """
    if schedule == "1f1b":
        own = waiting_at(block, waiting)
        for action in block_actions(blocks, microbatches, first, last, staleness, own):
            if isinstance(action, Update) and block > 1:  # somebody waits for a part of it
                yield InputGradients(action.step, action.microbatch)
                yield WeightGradients(action.step, action.microbatch)
            else:
                yield action
        return
    # the order in a segment depends on its length alone, and on whether older steps are open
    opened = min(first, staleness)
    steps = last - first
    orders = _zero_bubble(blocks, microbatches, steps, staleness, opened, waiting, head_apart)
    for kind, number in orders[block - 1]:
        if kind is None:
            yield Step(first + number)
        else:
            step, microbatch = divmod(number, microbatches)
            yield kind(first + step, microbatch)


_Kind = type[Forward] | type[InputGradients] | type[WeightGradients]
_Order = tuple[tuple[_Kind | None, int], ...]  # None: an optimizer step


def first_waiting(schedule: ExactSchedule, blocks: int, head_apart: bool) -> int:
    """Return how many microbatches wait for their gradient at the first block where links are fast.

    head_apart: the head is in a process of its own.
    """
    return (blocks if schedule == "1f1b" else 2 * blocks - 1) + head_apart


@lru_cache(maxsize=8)
def _zero_bubble(
    blocks: int,
    microbatches: int,
    steps: int,
    staleness: int,
    opened: int,
    waiting: int,
    head_apart: bool,
) -> tuple[_Order, ...]:
    """Return what each block does, as it comes about where F, B and W take one unit of time each.

    A block that is free does B if it can, otherwise F, otherwise W. The numbers of F, B and W count
    the microbatches of the segment, those of S its steps; older open steps have negative ones.
    """
    line = [
        _BlockInTime(microbatches, steps, staleness, opened, waiting_at(k, waiting), waiting + 1)
        for k in range(1, blocks + 1)
    ]
    at_head, before = 0, -1  # outputs that have arrived at the head
    while not all(block.done for block in line):
        # what neighbours have ended by now; a unit of work in any block is progress
        ended = [(block.forwards, block.backwards) for block in line]
        back = at_head if head_apart else ended[-1][0]
        for k, block in enumerate(line):
            arrived = ended[k - 1][0] if k else block.end
            block.act(arrived, ended[k + 1][1] if k + 1 < blocks else back)
        at_head = ended[-1][0]
        work = sum(len(block.order) for block in line) + at_head
        if work == before:
            raise ValueError("the schedule is in deadlock")
        before = work
    return tuple(tuple(block.order) for block in line)


class _BlockInTime:
    """One block of the simulated line."""

    def __init__(
        self, microbatches: int, steps: int, staleness: int, opened: int, waiting: int, kept: int
    ) -> None:
        """waiting: microbatches between F and B, at most; kept: between F and W."""
        self.end, self._microbatches = microbatches * steps, microbatches
        self._staleness, self._waiting, self._kept = staleness, waiting, kept
        self.forwards = self.backwards = self._weights = 0
        self._next_step, self._last_step = -opened, steps - staleness
        self.order: list[tuple[_Kind | None, int]] = []

    @property
    def done(self) -> bool:
        """Return whether all is done."""
        return self._weights == self.end and self._next_step >= self._last_step

    def act(self, arrived: int, returned: int) -> None:
        """Do one unit of work, if there is any; optimizer steps take no time.

        arrived, returned: microbatches whose inputs, and whose gradients, have arrived.
        """
        self._steps()
        step = self.forwards // self._microbatches
        may_begin = step <= self._next_step + self._staleness
        if self.backwards < returned:
            self._do(InputGradients, self.backwards)
            self.backwards += 1
        elif (
            self.forwards < min(arrived, self.end)
            and may_begin
            and self.forwards - self.backwards < self._waiting
            and self.forwards - self._weights < self._kept
        ):
            self._do(Forward, self.forwards)
            self.forwards += 1
        elif self._weights < self.backwards:
            self._do(WeightGradients, self._weights)
            self._weights += 1
        self._steps()

    def _steps(self) -> None:
        """Take the optimizer steps that are due; in delayed mode some forwards come before them."""
        while self._next_step < self._last_step:
            ended = self._weights // self._microbatches
            begun = self.forwards // self._microbatches
            if self._next_step >= min(ended, begun - self._staleness):
                return
            self._do(None, self._next_step)
            self._next_step += 1

    def _do(self, kind: _Kind | None, number: int) -> None:
        self.order.append((kind, number))
