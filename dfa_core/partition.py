"""Cuts the layers into contiguous blocks whose slowest is as fast as can be."""

from collections.abc import Sequence
from itertools import pairwise

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
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    # best[i]: (cost of the slowest block, where it starts) for the first i layers in b blocks
    best = [(sums[i], 0) for i in range(layers + 1)]
    cuts: list[list[int]] = []
    for b in range(2, blocks + 1):
        now = [(float("inf"), 0)] * (layers + 1)
        for end in range(b, layers + 1):
            now[end] = min(
                (max(best[start][0], sums[end] - sums[start]), start) for start in range(b - 1, end)
            )
        cuts.append([start for _, start in now])
        best = now
    ends = [layers]
    for starts in reversed(cuts):
        ends.append(starts[ends[-1]])
    ends.append(0)
    ends.reverse()
    return list(pairwise(ends))
