"""Averages of weights on blocks: the reference's bits."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pipelines import LOSS, assert_like, pipeline

from dfa_core import Reference
from workers.placement import Worker


@pytest.mark.ray
@pytest.mark.parametrize(("blocks", "staleness"), [(1, 0), (3, 0), (2, 1)])
def test_blocks_keep_the_references_averages(
    four_workers: list[Worker], tmp_path: Path, blocks: int, staleness: int
) -> None:
    """They are in the state that assert_like() compares, and in the evaluations."""
    r = replace(rule("adam", 2, staleness=staleness), ema=0.9)
    network = sorted(NETWORKS)[0]
    with pipeline(four_workers, network, r, blocks) as engine:
        assert_like(lambda: Reference(NETWORKS[network], LOSS, r), engine, tmp_path, at_once=7)
