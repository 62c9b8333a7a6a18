"""Predictions for whole machines, from a model whose costs are known."""

from dataclasses import replace

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
from torch import nn

from dfa_core.balance.profiling import profile
from dfa_speedup.simulation.costs import Costs, LayerCost
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.scaling import (
    Prediction,
    predict_scaling,
    predict_workers,
)
from dfa_speedup.simulation.sending import sending
from dfa_speedup.workload import Workload

UNIT = LayerCost(forward=1, update=1, backward=2, inputs=1, weights=1, optimizer=0)
FREE = Link(0.0, float("inf"))


class NoBatches:
    """The simulator reads no data."""

    def __call__(self, microbatches: int) -> "NoBatches":
        raise AssertionError(microbatches)


def predictor(head_s: float, batch: int = 64, link: Link = FREE) -> Predictor:
    """Four layers that take 1 s forward and 1 s for their update; a head that takes so long."""
    x, target = Noise().batch(0)
    measured = profile(NETWORKS["mlp"], nn.functional.cross_entropy, rule(), x, target)
    layers = tuple(replace(layer, seconds=2.0) for layer in measured.layers)
    measured = replace(measured, layers=layers, head_seconds=head_s)
    head = LayerCost(head_s / 3, head_s, 2 * head_s / 3, head_s / 3, head_s / 3, 0)
    costs = Costs(batch, (UNIT,) * 4, head)
    return Predictor(
        Workload(NETWORKS["mlp"], measured.loss, rule(), NoBatches(), batch, measured), costs, link
    )


def found(prediction: Prediction | str) -> Prediction:
    assert isinstance(prediction, Prediction), prediction
    return prediction


def test_a_head_as_long_as_a_block_is_a_worker_of_its_own_and_the_schedules_get_it_too() -> None:
    one = found(predict_scaling(predictor(2.0), 4, 1))
    assert (one.shape.head, one.shape.workers, one.set_by) == ("coordinator", 5, "block 1")
    assert one.seconds == pytest.approx(2.0, rel=0.2)
    assert one.efficiency == pytest.approx(1.0, rel=0.2)


def test_a_head_as_long_as_two_blocks_has_two_workers() -> None:
    one = found(predict_scaling(predictor(4.0), 4, 1))
    assert (one.shape.head, one.shape.heads, one.shape.workers) == ("workers", 2, 6)
    assert one.seconds == pytest.approx(2.0, rel=0.2)
    assert one.efficiency == pytest.approx((4 * 2 + 4) / (one.seconds * 6))


def test_a_light_head_is_in_the_last_block() -> None:
    one = found(predict_scaling(predictor(0.1), 2, 1))
    assert (one.shape.head, one.shape.workers) == ("block", 2)
    assert one.set_by == "block 2 + head"
    assert one.seconds == pytest.approx(4.1, rel=0.05)


def test_any_number_of_microbatches_that_divides_the_batch_is_tried() -> None:
    one = found(predict_scaling(predictor(0.1, batch=32), 3, 1))
    assert 32 % one.microbatches == 0


@pytest.mark.parametrize("head_s", [0.1, 2.0, 8.0])
def test_more_workers_are_never_slower_and_nearly_as_many_times_as_fast(head_s: float) -> None:
    of = predictor(head_s)
    seconds = {n: found(predict_workers(of, n)).seconds for n in (1, 2, 4, 8, 16)}
    assert sorted(seconds.values(), reverse=True) == list(seconds.values())
    assert seconds[1] / seconds[8] >= 0.8 * 8


def test_a_batch_that_must_stay_whole_is_neither_cut_nor_shared() -> None:
    of = predictor(0.1)
    whole = replace(of, workload=replace(of.workload, uncut=True))
    one = found(predict_workers(whole, 4))
    assert (one.shape.blocks, one.shape.replicas, one.microbatches) == (4, 1, 1)


def test_one_pipeline_has_neither_replicas_nor_a_process_beside_its_workers() -> None:
    for head_s, head in ((0.1, "block"), (4.0, "workers")):
        one = found(predict_workers(predictor(head_s), 3, one_pipeline=True))
        assert (one.shape.replicas, one.shape.in_replica, one.shape.head) == (1, 3, head)


def test_a_machine_that_no_shape_fills_is_said() -> None:
    assert predict_workers(predictor(0.1), 13 * 17) == (
        "no K of at most 4 layers times an R that divides the batch of 64 makes 221 workers"
    )


def test_the_reference_of_these_costs() -> None:
    """One worker computes everything one after the other."""
    one = found(predict_workers(predictor(2.0), 1))
    assert one.shape.blocks == one.shape.replicas == 1
    assert one.seconds == pytest.approx(4 * 2 + 2)
    assert torch.isclose(torch.tensor(one.efficiency), torch.tensor(1.0))


def test_a_slow_card_bounds_the_step_and_is_named() -> None:
    of = predictor(0.1, batch=64, link=Link(0.0, 64.0))
    one = found(predict_scaling(of, 2, 1))
    sent = sending(of.workload, one.shape, of.ranges(one.shape, one.microbatches), of.link)
    name = max(sent, key=sent.__getitem__)
    assert one.seconds >= sent[name] > 4.1
    assert one.set_by == name
    assert name.endswith("messages")
