from functools import partial
from typing import Any

import pytest
import torch
from support.networks import NETWORKS, Noise, dense, rule
from torch import Tensor, nn

from dfa_core import (
    Block,
    FeedbackSpec,
    JobError,
    LearningRule,
    Model,
    alignment,
    build_layers,
    partition,
    profile,
    split,
)
from dfa_core.reference import Reference

LOSS = nn.functional.cross_entropy


def test_shapes_parameters_and_costs() -> None:
    found = profile(NETWORKS["conv"], LOSS, rule(), *Noise().batch(0))
    assert [spec.shape for spec in found.between] == [(64,), (6, 4, 4), (8, 2, 2), (24,), (16,)]
    assert [layer.features for layer in found.layers] == [96, 32, 24, 16]
    assert found.layers[3].parameters == 24 * 16 + 16
    assert found.error.shape == (10,)
    assert all(layer.seconds > 0 for layer in found.layers)


def test_equal_layers_cost_the_same_and_are_cut_evenly() -> None:
    equal = Model((dense(64, 64),) * 6, partial(nn.Linear, 64, 10))
    for _ in range(3):
        found = profile(equal, LOSS, rule(), *Noise().batch(0))
        assert len({layer.seconds for layer in found.layers}) == 1
        assert partition([layer.seconds for layer in found.layers], 2) == [(0, 3), (3, 6)]
    mixed = profile(NETWORKS["mlp"], LOSS, rule(), *Noise().batch(0))
    assert len({layer.seconds for layer in mixed.layers}) == 4


class Changing(nn.Module):
    """Returns another shape from its third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (x @ self.weight)[:, : 8 if self.calls < 3 else 7]


def test_a_layer_that_changes_its_shape_is_named() -> None:
    model = Model((dense(64, 8), Changing), partial(nn.Linear, 8, 10))
    block = Block(build_layers(model, 0, 2, rule()))
    x, _ = Noise().batch(0)
    block.forward(x, 0, 0)
    block.forward(x, 0, 1)
    with pytest.raises(
        JobError,
        match=r"layer 1 \(Changing\) returned samples of \(7,\), but of \(8,\)",
    ):
        block.forward(x, 0, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (partial(nn.Linear, 9, 8), r"layer 1 \(Linear\) fails on an input of \(24, 8\)"),
        (partial(nn.Flatten, 0), r"layer 1 \(Flatten\) returned \(192,\) for 24 samples"),
        (partial(nn.LSTM, 8, 8), r"layer 1 \(LSTM\) returned tuple for 24 samples"),
    ],
)
def test_layers_that_do_not_fit_are_named(layer: partial[nn.Module], message: str) -> None:
    model = Model((dense(64, 8), layer), partial(nn.Linear, 8, 10))
    with pytest.raises(JobError, match=message):
        profile(model, LOSS, rule(), *Noise().batch(0))


def test_a_layer_without_a_gradient_is_named() -> None:
    class Rounds(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            return x.round()

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:
            raise ArithmeticError("no slope")

    class Rounded(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            rounded: Tensor = Rounds.apply(super().forward(x))  # type: ignore[no-untyped-call]
            return rounded

    model = Model((dense(64, 8), partial(Rounded, 8, 8)), partial(nn.Linear, 8, 10))
    message = r"the gradients of layer 1 \(Rounded\) cannot be computed: ArithmeticError: no slope"
    with pytest.raises(JobError, match=message):
        profile(model, LOSS, rule(), *Noise().batch(0))


def test_head_and_targets_that_do_not_fit_are_named() -> None:
    model = Model((dense(64, 8),), partial(nn.Linear, 8, 3))  # targets go up to 9
    with pytest.raises(JobError, match=r"the head \(Linear\) and the loss fail"):
        profile(model, LOSS, rule(), *Noise().batch(0))


def test_split_gives_each_part_memory_of_its_own() -> None:
    batch = torch.arange(12.0).reshape(6, 2)
    parts = split(batch, 3)
    assert torch.equal(torch.cat(parts), batch)
    assert all(part.data_ptr() % 64 == 0 for part in parts)
    with pytest.raises(JobError, match="4 does not divide the batch of 6"):
        split(batch, 4)


def test_identity_feedback_aligns_with_the_exact_gradient_on_a_residual_stream() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * torch.tanh(self.inner(x))

    model = Model((partial(nn.Linear, 64, 16), Residual, Residual), partial(nn.Linear, 16, 10))
    x, target = Noise().batch(0)
    cosines = {}
    for kind in ("identity", "random"):
        r = LearningRule(feedback=FeedbackSpec(kind=kind), error_at="input")  # type: ignore[arg-type]
        reference = Reference(model, LOSS, r)
        cosines[kind] = alignment(reference, 0, x, target)
        assert all(
            p.grad is None
            for module in reference.trained_modules()
            for p in module.parameters.values()
        )
    assert min(cosines["identity"]) > 0.95
    assert cosines["identity"][-1] == pytest.approx(1.0)
    assert max(abs(c) for c in cosines["random"]) < 0.6
