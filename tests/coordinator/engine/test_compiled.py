"""Compiled layers have the bits of the compiled reference, on any number of blocks."""

from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pipelines import LOSS, assert_same_state, pipeline, save, train

from dfa_core import Reference
from workers.placement import Worker

LONG = pytest.mark.endurance


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("network", "optimizer", "shape"),
    [
        ("mlp", "sgd", (2, 1)),
        pytest.param("norm-dropout", "adam", (2, 1), marks=LONG),
        pytest.param("batch-norm", "sgd", (1, 2), marks=LONG),
        pytest.param("several-tensors", "adam", (3, 1), marks=LONG),
        pytest.param("conv", "adam", (4, 1), marks=LONG),
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
    r = rule(optimizer, 2, compiled=True)
    reference = Reference(NETWORKS[network], LOSS, r, replicas=replicas)
    expected = train(reference, 0, 4)
    with pipeline(four_workers, network, r, blocks, replicas) as engine:
        engine.start(None)
        losses = train(engine, 0, 4)
        save(engine, tmp_path, 4)
    assert losses == expected
    assert_same_state(tmp_path, reference.trained_modules())
    if network == "mlp":  # in the others, compiled code draws other numbers from the seed
        plain = Reference(NETWORKS[network], LOSS, rule(optimizer, 2), replicas=replicas)
        assert losses == pytest.approx(train(plain, 0, 4), rel=1e-4)
