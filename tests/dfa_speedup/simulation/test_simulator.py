"""The simulator against the closed forms of the schedules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfa_core import in_flight
from dfa_core.schedule import away
from dfa_speedup.peers import EAGER_PIPELINES
from dfa_speedup.simulation.costs import ZERO, Costs, LayerCost, mean_costs
from dfa_speedup.simulation.events import TimedAction, run
from dfa_speedup.simulation.link import Link, exposed, ring
from dfa_speedup.simulation.pipeline_orders import pipeline_order
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.simulation.steps import (
    Sizes,
    data_parallel_step,
    errorcast_step,
    pipeline_step,
)
from dfa_speedup.workload import Configuration

# forward 1, update 1, backward 2 (inputs 1, weights 1), as in DESIGN's account of the step
UNIT = LayerCost(forward=1, update=1, backward=2, inputs=1, weights=1, optimizer=0)
NO_LINK = Link(0.0, float("inf"))
NOTHING = Sizes(0, 0)
sizes = st.tuples(st.integers(1, 8), st.integers(1, 16))


@given(sizes)
def test_errorcast_has_no_bubble_from_k_plus_1_microbatches_on(size: tuple[int, int]) -> None:
    blocks, m = size
    step = errorcast_step(Shape(blocks), [UNIT] * blocks, ZERO, 1, m, NOTHING, NO_LINK)
    if m >= blocks:  # free messages need no microbatch more to hide their trip
        assert step == pytest.approx(2 * m)
    else:
        assert step >= 2 * m


@given(st.integers(1, 5), st.integers(1, 12))
def test_enough_microbatches_hide_slow_links(blocks: int, latency: int) -> None:
    m = in_flight(blocks, 1000, 0, away(blocks, latency, 0, 2))
    far = Link(latency, float("inf"))
    step = errorcast_step(Shape(blocks), [UNIT] * blocks, ZERO, 1, m, NOTHING, far)
    assert step == pytest.approx(2 * m)


@given(st.integers(1, 3), st.integers(1, 6))
def test_heads_that_share_the_work_keep_no_block_waiting(blocks: int, heads: int) -> None:
    """Each takes as long as a block for all its microbatches, and longer for each of them."""
    head, m = LayerCost(0, 2.0 * heads, 0, 0, 0, 0), 8 * (blocks + heads)
    shape = Shape(blocks, 1, "workers", heads)
    step = errorcast_step(shape, [UNIT] * blocks, head, 1, m, NOTHING, NO_LINK)
    assert step <= 2.1 * m + 2 * heads  # the last microbatch of a head


@given(st.integers(2, 6), st.integers(0, 3))
def test_enough_staleness_fills_an_uncut_batch(blocks: int, more: int) -> None:
    exact = errorcast_step(Shape(blocks), [UNIT] * blocks, ZERO, 1, 1, NOTHING, NO_LINK)
    delayed = errorcast_step(
        Shape(blocks), [UNIT] * blocks, ZERO, 1, 1, NOTHING, NO_LINK, blocks - 1 + more
    )
    assert exact == pytest.approx(blocks + 1)  # forwards through all blocks, then one update
    assert delayed == pytest.approx(2)


@given(sizes)
def test_1f1b_and_gpipe_cost_what_the_literature_says(size: tuple[int, int]) -> None:
    workers, m = size
    for name in ("1F1B", "GPipe"):
        step = pipeline_step(Configuration(name, m), [UNIT] * workers, workers, 1, 0, NO_LINK)
        assert step == pytest.approx((m + workers - 1) * 3)


@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(sorted(EAGER_PIPELINES)),
    st.sampled_from([2, 3, 4]),
    st.sampled_from([1, 2]),
    st.sampled_from([2, 3, 4]),
)
def test_each_order_is_complete_and_no_better_than_its_limit(
    name: str, workers: int, times: int, most: int
) -> None:
    peer, m = EAGER_PIPELINES[name], 2 * workers * times
    virtual = peer.virtual_stages(most * workers, workers)[-1]
    assert virtual == {"one": 1, "v": 2, "loop": most}[peer.order]
    stages = [UNIT * (1 / virtual)] * (workers * virtual)
    configuration = Configuration(name, m, virtual)
    orders = pipeline_order(configuration, workers)
    for worker, order in enumerate(orders):
        hosted = peer.stages_of(worker, workers, virtual)
        for stage in hosted:
            done = [(kind, i) for kind, s, i in order if s == stage]
            assert sorted(i for kind, i in done if kind == "F") == list(range(m))
            assert sorted(i for kind, i in done if kind in "BI") == list(range(m))
            assert sorted(i for kind, i in done if kind in "BW") == list(range(m))
    step = pipeline_step(configuration, stages, workers, 1, 0, NO_LINK)
    assert 3 * m <= step + 1e-9
    assert step <= (m + workers - 1) * 3 + 1e-9  # and no worse than 1F1B


def test_messages_cost_time_and_the_head_can_be_the_bottleneck() -> None:
    free = errorcast_step(Shape(2), [UNIT] * 2, ZERO, 1, 2, NOTHING, NO_LINK)
    slow = errorcast_step(Shape(2), [UNIT] * 2, ZERO, 1, 2, Sizes(1, 1), Link(0.5, 1.0))
    assert slow > free == 4
    head = LayerCost(0, 5, 0, 0, 0, 0)
    # four heads; and an update and two forwards before the first head of the next step
    assert errorcast_step(Shape(2), [UNIT] * 2, head, 1, 4, NOTHING, NO_LINK) == pytest.approx(
        4 * 5 + 1 + 2
    )


def test_heads_of_their_own_share_what_one_has_to_do() -> None:
    head, blocks = LayerCost(0, 5, 0, 0, 0, 0), [UNIT] * 2

    def step(heads: int, head_sum: float = 0.0) -> float:
        shape = Shape(2, 1, "workers", heads)
        return errorcast_step(shape, blocks, head, 1, 12, NOTHING, NO_LINK, head_sum=head_sum)

    alone = errorcast_step(Shape(2), blocks, head, 1, 12, NOTHING, NO_LINK)
    assert step(1) == pytest.approx(alone)
    times = [step(heads) for heads in (1, 2, 3)]
    assert times == sorted(times, reverse=True)
    assert times[0] > 12 * 5 > times[1] > 6 * 5
    assert step(3, head_sum=4.0) >= times[2]
    hosted = errorcast_step(Shape(2, 1, "block"), blocks, head, 1, 12, NOTHING, NO_LINK)
    assert hosted >= 12 * (2 + 5)


def test_data_parallelism_hides_its_ring_behind_the_backward_pass() -> None:
    costs = Costs(4, (UNIT, UNIT), ZERO)
    assert data_parallel_step(costs, 2, 4, 100, Link(0, 1000)) == pytest.approx(6)
    assert data_parallel_step(costs, 2, 4, 100, Link(0, 10)) == pytest.approx(2 + 2 * 50 / 10)
    assert data_parallel_step(costs, 2, 8, 100, Link(0, 1000)) == pytest.approx(12)


def test_costs_are_averaged_and_scaled_by_samples() -> None:
    one, other = (Costs(4, (UNIT * by,), UNIT * by) for by in (1, 3))
    mean = mean_costs([one, other])
    assert mean.layers == (UNIT * 2,)
    kept = LayerCost(1, 1, 1, 1, 1, optimizer=7)
    assert Costs(4, (kept,), ZERO).scaled(8).layers == (LayerCost(2, 2, 2, 2, 2, 7),)


def test_a_deadlock_is_an_error() -> None:
    waiting = [iter([TimedAction("a", 1, (("b", 0),))]), iter([TimedAction("b", 1, (("a", 0),))])]
    with pytest.raises(RuntimeError, match="deadlock"):
        run(waiting)


@given(sizes, st.integers(2, 4))
def test_replicas_with_free_sums_take_as_long_as_one(size: tuple[int, int], replicas: int) -> None:
    blocks, m = size
    one = errorcast_step(Shape(blocks), [UNIT] * blocks, ZERO, 1, m, NOTHING, NO_LINK)
    free = [[0.0]] * blocks
    shape = Shape(blocks, replicas)
    several = errorcast_step(shape, [UNIT] * blocks, ZERO, 1, m, NOTHING, NO_LINK, 0, free)
    assert several == pytest.approx(one)
    messages = 2 * (replicas - 1)
    assert ring(replicas, 12.0, Link(0.5, 2.0)) == pytest.approx(messages * (0.5 + 6 / replicas))
    slower = Link(0.5, 2.0, summed_bytes_per_s=1.0)
    assert ring(replicas, 12.0, slower) == pytest.approx(messages * (0.5 + 12 / replicas))


def test_a_sum_hides_behind_the_layers_still_to_be_updated() -> None:
    """Four layers whose updates end at 1, 2, 3 and 4, and whose optimizer steps take 1 each."""
    block = LayerCost(forward=4, update=4, backward=0, inputs=0, weights=0, optimizer=0)
    assert exposed(block, [1, 1, 1, 1]) == 1  # the last one's alone
    assert exposed(block, [2, 2, 2, 2]) == 1 + 8 - 4
    assert exposed(block, [0, 0, 0, 0]) == 0
    stepping = LayerCost(forward=4, update=4, backward=0, inputs=0, weights=0, optimizer=4)
    assert exposed(stepping, [1, 1, 1, 1]) == 0
    two = errorcast_step(Shape(1, 2), [block], ZERO, 1, 2, NOTHING, NO_LINK, 0, [[2, 2, 2, 2]])
    assert two == pytest.approx(2 * 8 + 5)
