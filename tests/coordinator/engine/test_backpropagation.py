"""Backpropagation on blocks: the bits of the reference, for any schedule, shape and delay."""

from functools import partial
from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pairwise import combinations
from support.pipelines import LOSS, STEPS, assert_like, pipeline, train

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


@pytest.mark.parametrize(
    ("microbatches", "staleness", "schedule"),
    combinations((1, 2), (0, 1, 2), ("1f1b", "zero_bubble")),
)
def test_few_microbatches(
    four_workers: list[Worker], tmp_path: Path, microbatches: int, staleness: int, schedule: str
) -> None:
    r = rule("adam", microbatches, method="bp", staleness=staleness)
    reference = partial(Reference, NETWORKS["norm-dropout"], LOSS, r)
    with pipeline(four_workers, "norm-dropout", r, 3, schedule=schedule) as engine:
        assert_like(reference, engine, tmp_path, 8)


@pytest.mark.parametrize("heads", [0, 1])
def test_copies_learn_with_a_delay_too(four_workers: list[Worker], heads: int) -> None:
    """Their sums are open for a step; batch norm's statistics are those of the first copy."""
    blocks = 2 - heads
    r = rule("adam", 4, method="bp", staleness=1)
    reference = Reference(NETWORKS["batch-norm"], LOSS, r, replicas=2, heads=heads)
    with pipeline(four_workers, "batch-norm", r, blocks, replicas=2, heads=heads) as engine:
        engine.start(None)
        losses = train(engine, 0, 7) + train(engine, 7, STEPS)
    assert losses == train(reference, 0, STEPS)


@pytest.mark.parametrize(
    ("network", "blocks", "replicas", "head", "skips"),
    [
        ("mlp", 3, 1, "coordinator", False),
        ("several-tensors", 2, 1, "block", False),
        ("batch-norm", 2, 2, "coordinator", False),
        ("batch-norm", 3, 1, "workers", True),
        ("several-tensors", 1, 2, "workers", False),
    ],
)
def test_shallow_learning_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    network: str,
    blocks: int,
    replicas: int,
    head: str,
    skips: bool,
) -> None:
    """The head learns, and what it adds to its output; elsewhere blocks do forwards alone."""
    r, heads = rule("adam", 4, method="shallow", skip_non_finite=skips), int(head == "workers")
    reference = partial(
        Reference,
        NETWORKS[network],
        LOSS,
        r,
        replicas=replicas,
        heads=heads or int(head == "block"),
    )
    settings = {"replicas": replicas, "head": head, "heads": heads}
    with pipeline(four_workers, network, r, blocks, **settings) as engine:
        engine.start(None)
        engine.trace()
        train(engine, 0, 1)
        learns = network == "several-tensors" or skips
        assert any(s.what == "update" for s in engine.recordings()[0].spans) == learns
    with pipeline(four_workers, network, r, blocks, **settings) as engine:
        assert_like(reference, engine, tmp_path, 8)
