"""The schedules of backpropagation: complete, in order, without deadlock, within their memory."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_core import Forward, Step, Update
from dfa_core.exact_schedule import ExactSchedule, exact_actions, first_waiting
from dfa_core.schedule import Action, InputGradients, WeightGradients

pytestmark = pytest.mark.unit

SCHEDULES = st.sampled_from(["1f1b", "zero_bubble"])


def actions(
    schedule: ExactSchedule, blocks: int, m: int, first: int, last: int, s: int, apart: bool
) -> list[list[Action]]:
    waiting = first_waiting(schedule, blocks, apart)
    return [
        list(exact_actions(schedule, k, blocks, m, first, last, s, waiting, apart))
        for k in range(1, blocks + 1)
    ]


@given(
    SCHEDULES,
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(0, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_it_is_complete_and_ends(
    schedule: Any, blocks: int, m: int, first: int, steps: int, s: int, apart: bool
) -> None:
    last = first + steps
    every = [(step, i) for step in range(first, last) for i in range(m)]
    line = actions(schedule, blocks, m, first, last, s, apart)
    for of_block in line:
        forwards = [(a.step, a.microbatch) for a in of_block if isinstance(a, Forward)]
        inputs = [
            (a.step, a.microbatch) for a in of_block if isinstance(a, Update | InputGradients)
        ]
        weights = [
            (a.step, a.microbatch) for a in of_block if isinstance(a, Update | WeightGradients)
        ]
        assert forwards == inputs == weights == every
        stepped = [a.step for a in of_block if isinstance(a, Step)]
        assert stepped == [*range(max(0, first - s), max(0, last - s))]
        assert_weights_are_those_of_their_step(of_block, m, s, first)
    assert run(line) == len(every)


def assert_weights_are_those_of_their_step(
    of_block: list[Action], m: int, s: int, first: int
) -> None:
    """An optimizer step comes after its gradients, and where the delay puts it among forwards."""
    begun: Counter[int] = Counter()
    learned: Counter[int] = Counter()
    for action in of_block:
        match action:
            case Forward(step, _):
                begun[step] += 1
            case Update(step, _) | WeightGradients(step, _):
                learned[step] += 1
            case Step(step):
                assert step < first or learned[step] == m
                assert begun[step + s] == m
                assert not begun[step + s + 1]


def run(line: list[list[Action]]) -> int:
    """Run all blocks as messages allow; return how many microbatches came back to the first."""
    sent, back = [0] * (len(line) + 1), [0] * (len(line) + 1)
    at = [0] * len(line)
    moved = True
    while moved:
        moved = False
        for k, of_block in enumerate(line):
            while at[k] < len(of_block):
                action = of_block[at[k]]
                if isinstance(action, Forward):
                    if k and sent[k - 1] <= sent[k]:
                        break
                    sent[k] += 1
                elif isinstance(action, Update | InputGradients):
                    arrived = back[k + 1] if k + 1 < len(line) else sent[k]
                    if arrived <= back[k]:
                        break
                    back[k] += 1
                at[k] += 1
                moved = True
    assert at == [len(of_block) for of_block in line], "deadlock"
    return back[0]


@given(st.integers(1, 6), st.integers(1, 12))
def test_1f1b_keeps_fewer_activations_towards_the_end(blocks: int, m: int) -> None:
    for k, of_block in enumerate(actions("1f1b", blocks, m, 0, 3, 0, False), start=1):
        assert kept(of_block) == min(m, blocks - k + 1)


@given(st.integers(1, 6), st.integers(1, 12))
def test_zero_bubble_keeps_at_most_twice_as_many(blocks: int, m: int) -> None:
    for of_block in actions("zero_bubble", blocks, m, 0, 3, 0, False):
        assert kept(of_block) <= min(m, 2 * blocks)


def kept(of_block: list[Action]) -> int:
    """Return the most microbatches that wait for the last part of their backward pass."""
    now = most = 0
    for action in of_block:
        now += isinstance(action, Forward)
        most = max(most, now)
        now -= isinstance(action, Update | WeightGradients)
    return most
