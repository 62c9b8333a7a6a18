"""Where messages travel for long, more microbatches wait for their error, with the same bits."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.networks import NETWORKS, rule
from support.pipelines import LOSS, assert_same_state, pipeline, save, train

from coordinator.engine import far_links
from coordinator.engine.far_links import Hop
from coordinator.engine.pipeline import Pipeline
from coordinator.engine.worker_group import WorkerGroup
from dfa_core import Reference
from workers.placement import Worker


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers count as on several nodes."""
    monkeypatch.setattr(WorkerGroup, "far", True)


def settle(engine: Pipeline) -> list[Hop]:
    """Start; return what was told of links."""
    told = list[Hop]()
    engine._far = told.append
    engine.start(None)
    return told


@pytest.mark.parametrize("network", ["norm-dropout", "several-tensors"])
@pytest.mark.parametrize(("staleness", "heads", "waiting"), [(0, 0, 8), (1, 0, 16), (0, 1, 8)])
def test_on_slow_links_the_bits_are_the_references(
    four_workers: list[Worker],
    far: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    network: str,
    staleness: int,
    heads: int,
    waiting: int,
) -> None:
    monkeypatch.setattr(far_links, "_trip_s", lambda *_: 100.0)
    r = replace(rule("adam", 8), staleness=staleness)
    reference = Reference(NETWORKS[network], LOSS, r)
    expected = train(reference, 0, 6)
    with pipeline(four_workers, network, r, 2, heads=heads) as engine:
        (hop,) = settle(engine)
        losses = train(engine, 0, 4) + train(engine, 4, 6)
        save(engine, tmp_path, 6)
    assert hop.waiting == waiting
    assert f"{waiting} microbatches wait" in hop.message
    assert losses == expected
    assert_same_state(tmp_path, reference.trained_modules())


def test_a_trip_is_measured_and_memory_bounds_what_waits(
    four_workers: list[Worker], far: None
) -> None:
    with pipeline(four_workers, "mlp", rule("adam", 8), 2) as engine:
        slow = [replace(layer, seconds=1e-9) for layer in engine.plan.profile.layers]
        profile = replace(engine.plan.profile, layers=tuple(slow), head_seconds=0.0)
        engine.plan = replace(engine.plan, profile=profile, most_waiting=5)
        (hop,) = settle(engine)
        assert 0 < hop.seconds < 10
        assert hop.waiting == 5
        train(engine, 0, 2)


def test_on_near_links_nothing_changes(four_workers: list[Worker], far: None) -> None:
    with pipeline(four_workers, "mlp", rule("adam", 8), 2) as engine:
        long = [replace(layer, seconds=1e3) for layer in engine.plan.profile.layers]
        profile = replace(engine.plan.profile, layers=tuple(long))
        engine.plan = replace(engine.plan, profile=profile)
        assert settle(engine) == []
