"""Cuts the layers into contiguous blocks so that the slowest block is as fast as possible."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from dfa_core.errors import JobError

Starts = np.ndarray[tuple[int], np.dtype[np.int64]]
Sums = np.ndarray[tuple[int], np.dtype[np.float64]]


def partition(
    costs: Sequence[float], blocks: int, speeds: Sequence[float] | None = None
) -> list[tuple[int, int]]:
    """Return `blocks` ranges (first, last + 1) that cover all layers in order, none empty.

    costs: of each layer, in seconds or any other unit. The largest sum of a range is the smallest
    possible; among equal solutions, later blocks get more (block 1 is the first to wait for an
    error).
    speeds: of each block's worker, in any unit; a range then counts as its sum over that speed.

    Raises JobError when there are fewer layers than blocks, or fewer than one block.
    """
    layers = len(costs)
    if not 1 <= blocks <= layers:
        raise JobError(f"blocks: {blocks} is not between 1 and the model's {layers} layer(s)")
    sums = [0.0, *accumulate(costs)]
    if speeds is not None:
        return _uneven(np.array(sums), speeds)
    low, high = max(costs), sums[-1]  # bounds on the slowest block, unless low is enough
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
    """Fill blocks from the last to the first, each up to `most`; None when that is not enough."""
    ranges = []
    end = len(sums) - 1
    for before in reversed(range(blocks)):  # each block before this one needs a layer
        start = max(before, bisect_left(sums, sums[end] - most, hi=end))
        if start >= end:
            return None
        ranges.append((start, end))
        end = start
    return ranges[::-1] if end == 0 else None


def _uneven(sums: Sums, speeds: Sequence[float]) -> list[tuple[int, int]]:
    """Cut for workers of different speeds, by dynamic programming over (blocks, layers).

    Filling blocks greedily is not enough: which layers a slow worker gets depends on how many its
    neighbours take.
    """
    layers = len(sums) - 1
    best = np.full(layers + 1, np.inf)  # [n]: cost of the slowest block for the first n layers
    best[0] = 0.0
    starts = []
    for speed in speeds:
        start, slowest = np.zeros(layers + 1, dtype=int), np.full(layers + 1, np.inf)
        for end in range(1, layers + 1):
            of_start = np.maximum(best[:end], (sums[end] - sums[:end]) / speed)
            start[end] = int(of_start.argmin())
            slowest[end] = of_start[start[end]]
        starts.append(start)
        best = slowest
    return ranges_of(starts, layers)


def ranges_of(starts: Sequence[Starts], layers: int) -> list[tuple[int, int]]:
    """Return the ranges that a dynamic program found; starts[k][n]: of block k if it ends at n."""
    ranges, end = [], layers
    for start in reversed(starts):
        ranges.append((int(start[end]), end))
        end = int(start[end])
    return ranges[::-1]
