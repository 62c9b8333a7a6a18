"""Chooses few combinations that still bring every two values together."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

Combination = tuple[Any, ...]


def combinations(
    *factors: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True
) -> list[Any]:
    """Return all combinations for pytest's parametrize; most of them only run with endurance.

    `make test` runs the ones in which every value of a factor meets every value of each other
    factor at least once, where that is allowed.
    """
    every = [c for c in itertools.product(*factors) if allowed(*c)]
    chosen = _pairwise(every)
    return [c if c in chosen else pytest.param(*c, marks=pytest.mark.endurance) for c in every]


def _pairwise(every: Sequence[Combination]) -> list[Combination]:
    """Take the combination with the most new pairs, again and again, until no pair is new."""
    open_pairs = {pair for combination in every for pair in _pairs(combination)}
    chosen = []
    while open_pairs:
        chosen.append(max(every, key=lambda combination: len(_pairs(combination) & open_pairs)))
        open_pairs -= _pairs(chosen[-1])
    return chosen


def _pairs(combination: Combination) -> set[tuple[Any, ...]]:
    return set(itertools.combinations(enumerate(combination), 2))
