"""The memory that workers need, before they are asked to build anything."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from coordinator.engine.memory import check_memory, most_waiting, needs_of
from coordinator.engine.plan import Plan, make_plan
from dfa_core import JobError, LearningRule, Model, OptimizerSpec
from dfa_core.optimizer import state_per_weight
from workers.gpu import Gpu
from workers.placement import Worker

MODEL = Model(
    (partial(nn.Linear, 64, 128), partial(nn.Linear, 128, 32)), partial(nn.Linear, 32, 10)
)
WEIGHTS = (64 * 128 + 128, 128 * 32 + 32)


def plan(
    optimizer: str = "adam", replicas: int = 1, microbatches: int = 4, staleness: int = 0
) -> Plan:
    batch = torch.randn(48, 64), torch.randint(0, 10, (48,))
    spec = OptimizerSpec(optimizer, 1e-3)
    rule = LearningRule(microbatches=microbatches, optimizer=spec, staleness=staleness)
    return make_plan(MODEL, nn.functional.cross_entropy, rule, batch, 2, replicas)


@pytest.mark.parametrize(
    ("optimizer", "options", "numbers"),
    [("sgd", {}, 0), ("sgd", {"momentum": 0.9}, 1), ("adam", {}, 2), ("rmsprop", {}, 1)],
)
def test_how_many_numbers_per_weight_an_optimizer_keeps(
    optimizer: str, options: dict[str, float], numbers: int
) -> None:
    assert round(state_per_weight(OptimizerSpec(optimizer, 1e-3, options))) == numbers


def test_a_needs_of_its_weights_four_times_and_what_waits() -> None:
    first, second = needs_of(plan())
    assert first.kept == pytest.approx(16 * WEIGHTS[0], rel=1e-3)
    assert second.kept == pytest.approx(16 * WEIGHTS[1], rel=1e-3)
    assert first.activations == 4 * (64 + 128) * 12 * 3  # of K + 1 microbatches of 12
    assert needs_of(plan(replicas=2))[0].activations == 4 * (64 + 128) * 12 * 2


def test_steps_in_flight_keep_their_activations() -> None:
    uncut = 4 * (64 + 128) * 48
    assert needs_of(plan(microbatches=1))[0].activations == uncut
    assert needs_of(plan(microbatches=1, staleness=1))[0].activations == 2 * uncut


def test_backpropagation_keeps_fewer_towards_the_end_and_shallow_learning_keeps_none() -> None:
    made = plan()
    backward = replace(made, rule=replace(made.rule, method="bp"), head="block")
    first, second = needs_of(backward)
    assert first.activations == 4 * (64 + 128) * 12 * 2
    assert second.activations == 4 * (128 + 32) * 12 * 1 + 2 * 4 * 10 * 12  # and the head's output
    zero_bubble = replace(backward, schedule="zero_bubble")
    assert [need.bytes for need in needs_of(zero_bubble)] == [first.bytes, second.bytes]
    shallow = replace(made, profile=replace(made.profile, learns=False))
    assert needs_of(shallow)[0].activations == 4 * (64 + 128) * 12


def test_what_cannot_fit_is_refused_with_the_numbers() -> None:
    made = plan(replicas=2)
    there = [Worker(None, 1, node) for node in ("one", "one", "two", "two")]
    total = sum(need.bytes for need in needs_of(made))
    check_memory(made, there, {"one": total, "two": total + 1})
    check_memory(made, there, {"two": total})  # of one node nothing is known
    with pytest.raises(JobError, match=r"the 2 worker\(s\) on node two need at least 0.0 GB, "):
        check_memory(made, there, {"one": total, "two": total - 1})
    with pytest.raises(
        JobError, match="block 1 of replica 2 most: .* for activations; .* are available"
    ):
        check_memory(made, there, {"two": 1.0})


def test_more_may_wait_where_there_is_memory() -> None:
    made = plan(microbatches=8)
    there = [Worker(None, 1, node) for node in ("one", "two")]
    first, second = needs_of(made)
    each = first.activations / made.least_waiting
    room = {"one": first.bytes + 2.5 * each, "two": 1e12}
    assert made.least_waiting == 3
    assert most_waiting(made, there, room) == 5
    assert most_waiting(made, there, {"two": second.bytes}) == 3  # of one node nothing is known


def test_recomputing_blocks_keep_inputs_alone() -> None:
    first, second = needs_of(replace(plan(), kind="recomputing"))
    assert first.activations == 4 * 12 * (3 * 64 + 64 + 128)
    assert second.activations == 4 * 12 * (3 * 128 + 128 + 32)


def test_what_shares_a_gpu_must_fit_on_it_together() -> None:
    made = plan()
    first, second = (need.bytes for need in needs_of(made))

    def check(*gpus: Gpu) -> None:
        check_memory(made, [Worker(None, 1, "one", gpu) for gpu in gpus], {"one": 1.0})

    check(Gpu("a", first), Gpu("b", second))
    check(Gpu("a", first + second), Gpu("a", first + second))
    with pytest.raises(JobError, match=r"2 worker\(s\) on GPU a need at least"):
        check(Gpu("a", first), Gpu("a", first))
