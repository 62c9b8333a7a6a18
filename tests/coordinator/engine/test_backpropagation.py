"""Backpropagation on blocks: the bits of the reference, for any schedule, shape and delay."""

from functools import partial
from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pairwise import combinations
from support.pipelines import (
    LOSS,
    assert_like,
    pipeline,
)

from dfa_core import Reference
from workers.placement import Worker


def fit(_network: str, blocks: int, replicas: int, heads: object, *_: object) -> bool:
    """Return whether four workers are enough."""
    own = heads if isinstance(heads, int) else 0
    return (blocks + own) * replicas <= 4


@pytest.mark.parametrize(
    ("network", "blocks", "replicas", "heads", "schedule", "optimizer", "staleness"),
    combinations(
        [*NETWORKS],
        (1, 2, 3, 4),
        (1, 2),
        ("coordinator", "block", 1, 2),
        ("1f1b", "zero_bubble"),
        ("sgd", "adam"),
        (0, 1),
        allowed=fit,
    ),
)
def test_it_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    blocks: int,
    replicas: int,
    heads: object,
    schedule: str,
    optimizer: str,
    staleness: int,
) -> None:
    own = heads if isinstance(heads, int) else 0
    place = heads if isinstance(heads, str) else "workers"
    staleness = staleness if replicas == 1 and own < 2 else 0  # open gradients are saved as sums
    r = rule(optimizer, 4, method="bp", staleness=staleness)
    reference = partial(
        Reference, NETWORKS[network], LOSS, r, replicas=replicas, heads=own or int(place == "block")
    )
    settings = {"replicas": replicas, "head": place, "heads": own, "schedule": schedule}
    with pipeline(four_workers, network, r, blocks, **settings) as engine:
        assert_like(reference, engine, tmp_path, 8)


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("staleness", [0, 1, 2])
@pytest.mark.parametrize("schedule", ["1f1b", "zero_bubble"])
def test_few_microbatches(
    four_workers: list[Worker], tmp_path: Path, microbatches: int, staleness: int, schedule: str
) -> None:
    r = rule("adam", microbatches, method="bp", staleness=staleness)
    reference = partial(Reference, NETWORKS["norm-dropout"], LOSS, r)
    with pipeline(four_workers, "norm-dropout", r, 3, schedule=schedule) as engine:
        assert_like(reference, engine, tmp_path, 8)
