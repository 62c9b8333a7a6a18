"""Where the feedback points of a residual network are."""

from collections.abc import Sequence
from functools import partial

from dfa_core import JobError
from dfa_core.model import ModuleFactory, chain


def layers_between(
    stem: ModuleFactory, blocks: Sequence[ModuleFactory], points: int
) -> tuple[ModuleFactory, ...]:
    """Return layers of `points` blocks each, in which gradients are exact; the first has the stem.

    Raises JobError if `points` does not divide the number of blocks.
    """
    if len(blocks) % points:
        raise JobError(f"options.points: {points} does not divide the {len(blocks)} blocks")
    groups = [blocks[start : start + points] for start in range(0, len(blocks), points)]
    return (partial(chain, stem, *groups[0]), *(partial(chain, *group) for group in groups[1:]))
