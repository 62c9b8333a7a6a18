"""Cuts a measured model into blocks, as suits the rule that trains it."""

from collections.abc import Sequence

import numpy as np

from dfa_core.balance.partitioning import partition, ranges_of
from dfa_core.balance.profiling import ModelProfile
from dfa_core.errors import JobError
from dfa_core.rule import LearningRule


def cut_layers(
    profile: ModelProfile,
    rule: LearningRule,
    blocks: int,
    replicas: int = 1,
    with_head: bool = False,
    speeds: Sequence[float] | None = None,
) -> list[tuple[int, int]]:
    """Return each block's layers (first, last + 1).

    Blocks of equal cost are best where they all compute all the time. With one microbatch in
    flight, each waits for the one before it, and what counts is the length of that chain.

    replicas: share the rule's microbatches. with_head: the last block has the head. speeds: of each
    block's worker; None: equal.

    Raises JobError as partition() does.
    """
    costs = [layer.seconds for layer in profile.layers]
    waits = rule.method == "dfa" and rule.microbatches == replicas and rule.staleness == 0
    if waits and speeds is None and 1 < blocks < len(costs):
        forwards = [layer.forward_seconds for layer in profile.layers]
        updates = [all_ - forward for all_, forward in zip(costs, forwards, strict=True)]
        return shortest_step(forwards, updates, blocks)
    if with_head:
        costs[-1] += profile.head_seconds
    return partition(costs, blocks, speeds)


def shortest_step(
    forwards: Sequence[float], updates: Sequence[float], blocks: int
) -> list[tuple[int, int]]:
    """Return the ranges with the shortest step of one microbatch, by dynamic programming.

    All blocks update at once when the error comes. Then the next forward passes through them, one
    after another; it waits at a block that still updates. So the end of block k's forward, counted
    from the error, is a_k = max(a_(k-1), U_k) + F_k, and the step is a_K and the head's time. Among
    equal steps, the first blocks are as small as possible.

    forwards, updates: seconds of each layer.

    Raises JobError when there are fewer layers than blocks, or fewer than one block.
    """
    layers = len(forwards)
    if not 1 <= blocks <= layers:
        raise JobError(f"blocks: {blocks} is not between 1 and the model's {layers} layer(s)")
    forward, update = (np.concatenate([[0.0], np.cumsum(each)]) for each in (forwards, updates))
    ended = np.full(layers + 1, np.inf)  # [n]: the end of the forward through the first n layers
    ended[0] = 0.0
    starts = []
    for _ in range(blocks):
        start, ends = np.zeros(layers + 1, dtype=int), np.full(layers + 1, np.inf)
        for end in range(1, layers + 1):
            after = np.maximum(ended[:end], update[end] - update[:end])
            of_start = after + forward[end] - forward[:end]
            start[end] = int(of_start.argmin())
            ends[end] = of_start[start[end]]
        starts.append(start)
        ended = ends
    return ranges_of(starts, layers)
