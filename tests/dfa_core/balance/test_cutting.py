"""Cuts for one microbatch in flight: no other cut has a shorter step."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_core import JobError
from dfa_core.balance.cutting import shortest_step
from dfa_speedup.simulation.costs import ZERO, LayerCost, total
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.simulation.steps import Sizes, errorcast_step

pytestmark = pytest.mark.unit
NO_LINK, NOTHING = Link(0.0, float("inf")), Sizes(0, 0)
seconds = st.floats(0.01, 10)
layers_of = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=7)


def simulated(layers: list[tuple[float, float]], ranges: list[tuple[int, int]]) -> float:
    """Return the step of one microbatch as the simulator of errorcast's schedule has it."""
    costs = [LayerCost(forward, update, 0.0, 0.0, 0.0, 0.0) for forward, update in layers]
    blocks = [total(costs[a:b]) for a, b in ranges]
    return errorcast_step(Shape(len(ranges)), blocks, ZERO, 1, 1, NOTHING, NO_LINK)


@given(layers_of, st.data())
def test_no_other_cut_has_a_shorter_step(
    layers: list[tuple[float, float]], data: st.DataObject
) -> None:
    blocks = data.draw(st.integers(1, len(layers)))
    forwards, updates = zip(*layers, strict=True)
    ranges = shortest_step(forwards, updates, blocks)
    assert [a for a, _ in ranges] == [0, *(b for _, b in ranges[:-1])]
    assert ranges[-1][1] == len(layers)
    assert all(a < b for a, b in ranges)
    found = simulated(layers, ranges)
    for cuts in combinations(range(1, len(layers)), blocks - 1):
        edges = list(pairwise([0, *cuts, len(layers)]))
        assert found <= simulated(layers, edges) * (1 + 1e-9)


def test_the_first_of_two_equal_blocks_is_the_smaller() -> None:
    """Its update is what the next step waits for; the other update is beside the next forward."""
    assert shortest_step([1.0] * 8, [1.0] * 8, 2) == [(0, 3), (3, 8)]
    with pytest.raises(JobError, match="blocks: 3 is not between 1 and the model's 2"):
        shortest_step([1.0] * 2, [1.0] * 2, 3)
