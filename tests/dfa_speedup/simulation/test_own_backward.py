"""Backpropagation on our own blocks, as the simulator sees it: the closed forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_speedup.peers import OWN_BACKWARD
from dfa_speedup.simulation.costs import ZERO, LayerCost
from dfa_speedup.simulation.own_backward import OwnBackwardStep

UNIT = LayerCost(forward=1, update=1, backward=2, inputs=1, weights=1, optimizer=0)
ONE_F, ZERO_BUBBLE, DELAYED = OWN_BACKWARD.values()


def seconds(backward: object, blocks: int, m: int) -> float:
    same = [UNIT] * blocks
    return OwnBackwardStep(backward, same, ZERO, m, 0.0, in_block=True).seconds()  # type: ignore[arg-type]


@given(st.integers(1, 6), st.integers(1, 12))
def test_1f1b_has_two_units_of_bubble_a_block(blocks: int, more: int) -> None:
    """Three in torch's, which sends a block's input gradients after those of its weights."""
    m = blocks + more
    assert seconds(ONE_F, blocks, m) == pytest.approx(3 * m + 2 * (blocks - 1))


@given(st.integers(1, 6), st.integers(0, 12))
def test_zero_bubble_has_none_from_twice_as_many_microbatches_on(blocks: int, more: int) -> None:
    m = 2 * blocks + more
    assert seconds(ZERO_BUBBLE, blocks, m) == pytest.approx(3 * m)


@given(st.integers(1, 6), st.integers(0, 12))
def test_a_delay_of_one_step_needs_no_more_microbatches_than_blocks(blocks: int, more: int) -> None:
    m = blocks + more
    assert seconds(DELAYED, blocks, m) == pytest.approx(3 * m)
