"""Every number of blocks, heads and replicas has the bits of the reference told the same."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pipelines import LOSS, assert_like, pipeline

from dfa_core import Reference
from workers.grid import Grid, HeadPlace
from workers.placement import Placement, Worker, WorkerResources

HEADS: list[tuple[HeadPlace, int]] = [
    ("coordinator", 0),
    ("block", 0),
    *(("workers", heads) for heads in (1, 2, 3)),
]


@pytest.fixture(scope="module")
def twelve_workers(a_ray: None) -> Iterator[list[Worker]]:
    """As many as three blocks and three heads in two replicas take."""
    placement = Placement(Grid(12), WorkerResources())
    yield placement.workers
    placement.release()


@pytest.mark.endurance
@pytest.mark.parametrize("network", ["norm-dropout", "several-tensors"])
@pytest.mark.parametrize(("blocks", "replicas"), product((1, 2, 3), (1, 2)))
@pytest.mark.parametrize(("head", "heads"), HEADS)
def test_every_shape_gives_the_references_bits(
    twelve_workers: list[Worker],
    tmp_path: Path,
    network: str,
    blocks: int,
    replicas: int,
    head: HeadPlace,
    heads: int,
) -> None:
    r, copies = rule("adam", 8), heads or (1 if head == "block" else 0)
    told = partial(Reference, NETWORKS[network], LOSS, r, replicas=replicas, heads=copies)
    with pipeline(twelve_workers, network, r, blocks, replicas, head=head, heads=heads) as engine:
        assert_like(told, engine, tmp_path, 8)
