"""What works in place changes copies; what does not gets the tensors themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dfa_core import JobError, LearningRule, Model, Reference
from dfa_core.input_guard import InputGuard


def test_code_that_works_in_place_always_gets_copies() -> None:
    guard, x = InputGuard("the layer"), torch.zeros(3)
    for _ in range(3):
        with guard.given([x]) as (given,):
            given.add_(1.0)
        assert torch.equal(x, torch.zeros(3))


def test_other_code_gets_the_tensors_themselves_after_its_first_call() -> None:
    guard, x = InputGuard("the layer"), torch.zeros(3)
    same = []
    for _ in range(3):
        with guard.given([x]) as (given,):
            same.append(given is x)
    assert same == [False, True, True]


def test_code_that_begins_to_work_in_place_is_named() -> None:
    guard, x = InputGuard("layer 3 (Odd)"), torch.zeros(3)
    with guard.given([x]):
        pass
    with (
        pytest.raises(JobError, match=r"layer 3 \(Odd\) changed its input in place"),
        guard.given([x]) as (given,),
    ):
        given.add_(1.0)


def changing(output: Tensor, target: Tensor) -> Tensor:
    return output.sub_(target).square().mean()


def plain(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


def test_a_loss_may_work_in_place() -> None:
    layers = (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh()),)
    losses = []
    for loss in (changing, plain):
        model = Model(layers, lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 2)))
        reference = Reference(model, loss, LearningRule(seed=1, microbatches=2))
        generator = torch.Generator().manual_seed(0)
        x, target = (torch.randn(8, n, generator=generator) for n in (4, 2))
        losses.append([reference.train_step(step, x, target) for step in range(4)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "change", [lambda x: x.data.mul_(2), lambda x: x.numpy().fill(3), lambda x: x.detach().add_(1)]
)
def test_a_change_that_no_version_counts_is_seen_too(change: Callable[[Tensor], object]) -> None:
    guard, x = InputGuard("the metric"), torch.ones(3)
    for _ in range(3):
        with guard.given([x]) as (given,):
            change(given)
        assert torch.equal(x, torch.ones(3))
