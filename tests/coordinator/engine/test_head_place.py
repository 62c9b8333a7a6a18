"""Which process computes the head, where the job does not say."""

from dataclasses import replace

import pytest
from support.networks import NETWORKS, SAMPLES, Noise, rule
from support.pipelines import LOSS

from coordinator.engine import head_place
from coordinator.engine.head_place import with_head_placed
from coordinator.engine.memory import needs_of
from coordinator.engine.plan import Plan, make_plan
from dfa_core.optimizer import state_per_weight
from workers.gpu import Gpu
from workers.grid import HeadPlace
from workers.placement import Worker


def plan(layers_s: tuple[float, ...], head_s: float, blocks: int, replicas: int = 1) -> Plan:
    """A plan of layers that take so long, beside a head that takes so long."""
    made = make_plan(NETWORKS["mlp"], LOSS, rule("adam", 2), Noise().batch(0), blocks, replicas)
    layers = tuple(
        replace(layer, seconds=s) for layer, s in zip(made.profile.layers, layers_s, strict=True)
    )
    measured = replace(made.profile, layers=layers, head_seconds=head_s)
    return replace(made, profile=measured).on(None)


def placed(of: Plan, monkeypatch: pytest.MonkeyPatch, cores: int, node: str = "a") -> Plan:
    monkeypatch.setattr(head_place, "usable_cpus", lambda: cores)
    workers = [Worker(None, 0, node) for _ in range(len(of.grid))]
    return with_head_placed(of, "auto", 0, workers, "a", coordinator_gpus=0.0)


@pytest.mark.parametrize(
    ("head_s", "cores", "node", "place"),
    [
        (0.1, 8, "a", "block"),  # a light head costs its block little, and saves a message
        (2.0, 8, "a", "coordinator"),  # as much as a block, on a core of its own
        (2.0, 2, "a", "block"),  # without one, it would take the blocks' time
        (2.0, 2, "b", "coordinator"),  # the workers are elsewhere
        (4.0, 2, "a", "coordinator"),  # the other block would wait
    ],
)
def test_the_head_is_where_the_busiest_process_has_less_to_do(
    monkeypatch: pytest.MonkeyPatch, head_s: float, cores: int, node: str, place: HeadPlace
) -> None:
    assert placed(plan((1, 1, 1, 1), head_s, 2), monkeypatch, cores, node).head == place


def test_the_last_block_gets_fewer_layers_with_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    found = placed(plan((1, 1, 1, 1), 2.0, 2), monkeypatch, cores=2)
    assert (found.head, found.ranges) == ("block", ((0, 3), (3, 4)))
    assert [layers for _, layers in found.held()] == ["0-2", "3, head"]


def test_a_choice_of_our_own_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the head in replicas would add its gradients in another order."""
    assert placed(plan((1, 1, 1, 1), 0.1, 2, replicas=2), monkeypatch, cores=8).head == (
        "coordinator"
    )


def test_a_job_chooses_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    of, workers = plan((1, 1, 1, 1), 9.0, 2), [Worker(None, 0, "a")] * 2
    monkeypatch.setattr(head_place, "usable_cpus", lambda: 2)
    for asked in ("block", "coordinator"):
        assert with_head_placed(of, asked, 0, workers, "a", 0.0).head == asked  # type: ignore[arg-type]


def test_gpus_say_where_the_head_belongs() -> None:
    of = plan((1, 1, 1, 1), 9.0, 2)
    on_gpus = [Worker(None, 0, "a", Gpu("0", 1 << 30))] * 2
    assert with_head_placed(of, "auto", 0, on_gpus, "a", 0.0).head == "block"
    assert with_head_placed(of, "auto", 0, on_gpus, "a", 0.5).head == "coordinator"


def test_workers_for_the_head_leave_the_layers_to_the_blocks() -> None:
    of, workers = plan((1, 1, 1, 1), 9.0, 2), [Worker(None, 0, "a")] * 4
    found = with_head_placed(of, "auto", 2, workers, "a", 0.0)
    assert (found.head, found.ranges) == ("workers", ((0, 2), (2, 4)))
    assert found.held() == [
        ("block 1", "0-1"), ("block 2", "2-3"), ("head 1", "head"), ("head 2", "head")
    ]  # fmt: skip
    assert [found.layers(number) for number in (1, 2, 3, 4)] == [(0, 2), (2, 4), (4, 4), (4, 4)]
    *blocks, one, other = needs_of(found)
    assert blocks == needs_of(of)
    assert one == other
    assert one.kept == needs_of(replace(of, head="block"))[1].kept - needs_of(of)[1].kept


def test_the_last_blocks_memory_holds_the_head() -> None:
    apart = plan((1, 1, 1, 1), 0.1, 2)
    together = replace(apart, head="block")
    (first, last), (_, with_head) = needs_of(apart), needs_of(together)
    assert needs_of(together)[0] == first
    weights, optimizer = 20 * 10 + 10, apart.rule.optimizer
    numbers = 2 + state_per_weight(optimizer)  # itself, its gradient, and the optimizer's
    assert with_head.kept - last.kept == pytest.approx(weights * 4 * numbers)
    assert with_head.activations - last.activations == 2 * 10 * 4 * SAMPLES // 2
