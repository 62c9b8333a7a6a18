from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_core import JobError, partition

costs = st.lists(st.floats(0.001, 100), min_size=1, max_size=9)


@given(costs, st.data())
def test_no_other_cut_is_better(costs: list[float], data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, len(costs)))
    ranges = partition(costs, blocks)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(costs)
    assert all(a < b for a, b in ranges)
    assert all(left[1] == right[0] for left, right in pairwise(ranges))
    slowest = max(sum(costs[a:b]) for a, b in ranges)
    for cuts in combinations(range(1, len(costs)), blocks - 1):
        edges = [0, *cuts, len(costs)]
        other = max(sum(costs[a:b]) for a, b in pairwise(edges))
        assert slowest <= other * (1 + 1e-9)


@given(costs, st.data())
def test_no_other_cut_is_better_on_workers_of_other_speeds(
    costs: list[float], data: st.DataObject
) -> None:
    blocks = data.draw(st.integers(1, len(costs)))
    fast = st.lists(st.floats(0.1, 10), min_size=blocks, max_size=blocks)
    speeds = data.draw(fast)
    ranges = partition(costs, blocks, speeds)
    assert [a for a, _ in ranges] == [0, *(b for _, b in ranges[:-1])]
    assert ranges[-1][1] == len(costs)

    def slowest(edges: list[tuple[int, int]]) -> float:
        return max(sum(costs[a:b]) / s for (a, b), s in zip(edges, speeds, strict=True))

    for cuts in combinations(range(1, len(costs)), blocks - 1):
        other = slowest(list(pairwise([0, *cuts, len(costs)])))
        assert slowest(ranges) <= other * (1 + 1e-9)


def test_a_worker_twice_as_fast_gets_twice_as_much() -> None:
    assert partition([1.0] * 9, 2, [2.0, 1.0]) == [(0, 6), (6, 9)]
    assert partition([1.0] * 9, 2, [1.0, 2.0]) == [(0, 3), (3, 9)]


def test_equal_layers_are_cut_in_equal_blocks() -> None:
    assert partition([1.0] * 8, 2) == [(0, 4), (4, 8)]
    assert partition([1.0] * 8, 4) == [(0, 2), (2, 4), (4, 6), (6, 8)]


@pytest.mark.parametrize("blocks", [0, -1, 4])
def test_impossible_numbers_of_blocks(blocks: int) -> None:
    with pytest.raises(JobError, match=f"blocks: {blocks} is not between 1 and the model's 3"):
        partition([1.0, 2.0, 3.0], blocks)
