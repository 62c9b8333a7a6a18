"""Cuts the layers into contiguous blocks whose slowest is as fast as can be."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from dfa_core.errors import JobError


def partition(costs: Sequence[float], blocks: int) -> list[tuple[int, int]]:
    """Return `blocks` ranges (first, last + 1) that cover all layers in order, none empty.

    costs: seconds, or any unit, a layer. The largest sum of a range is the smallest possible;
    among equals, later blocks are the fuller ones (block 1 is the first to wait for an error).

    Raises JobError when there are fewer layers than blocks, or fewer than one block.
    """
    layers = len(costs)
    if not 1 <= blocks <= layers:
        raise JobError(f"blocks: {blocks} is not between 1 and the model's {layers} layer(s)")
    sums = [0.0, *accumulate(costs)]
    low, high = max(costs), sums[-1]  # of the slowest block: more than low, unless low will do
    found = _cuts(sums, blocks, low)
    if found is None:
        found = [(0, layers)] if blocks == 1 else _cuts(sums, blocks, high)
        middle = (low + high) / 2
        while low < middle < high:
            fitting = _cuts(sums, blocks, middle)
            low, high = (middle, high) if fitting is None else (low, middle)
            found = fitting or found
            middle = (low + high) / 2
    return found or []


def _cuts(sums: Sequence[float], blocks: int, most: float) -> list[tuple[int, int]] | None:
    """Fill blocks from the last to the first, each up to `most`; None when that is too little."""
    ranges = []
    end = len(sums) - 1
    for before in reversed(range(blocks)):  # each of them needs a layer of its own
        start = max(before, bisect_left(sums, sums[end] - most, hi=end))
        if start >= end:
            return None
        ranges.append((start, end))
        end = start
    return ranges[::-1] if end == 0 else None
