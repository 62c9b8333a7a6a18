"""Blocks that compute forwards again at the update have the bits of those that keep them."""

from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pipelines import LOSS, assert_same_state, pipeline, save, train

from dfa_core import Reference
from workers.placement import Worker


@pytest.mark.parametrize(
    ("network", "optimizer", "shape"),
    [
        ("norm-dropout", "adam", (2, 1)),
        ("batch-norm", "sgd", (1, 2)),
        ("several-tensors", "adam", (3, 1)),
        ("conv", "adam", (1, 1)),
    ],
)
def test_they_give_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    optimizer: str,
    shape: tuple[int, int],
) -> None:
    blocks, replicas = shape
    r = rule(optimizer, 4)
    reference = Reference(NETWORKS[network], LOSS, r, replicas=replicas)
    expected = train(reference, 0, 6)
    with pipeline(four_workers, network, r, blocks, replicas, kind="recomputing") as engine:
        engine.start(None)
        losses = train(engine, 0, 4) + train(engine, 4, 6)
        save(engine, tmp_path, 6)
    assert losses == expected
    assert_same_state(tmp_path, reference.trained_modules())
