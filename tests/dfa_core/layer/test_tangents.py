"""FDFA: feedback matrices from derivatives that travel forward."""

from functools import partial
from typing import Any

import pytest
import torch
from support.networks import NETWORKS, Noise
from torch import Tensor, nn

from coordinator.job.resolve import resolve
from dfa_core import (
    FeedbackSpec,
    JobError,
    LearningRule,
    Model,
    OptimizerSpec,
    Reference,
    alignment,
)
from dfa_core.layer.learned_matrices import AVERAGED
from dfa_core.rule import ErrorAt

LOSS = nn.functional.cross_entropy


def rule(lr: float = 0.0, microbatches: int = 1, error_at: ErrorAt = "output") -> LearningRule:
    return LearningRule(
        seed=3,
        microbatches=microbatches,
        optimizer=OptimizerSpec(lr=lr),
        feedback=FeedbackSpec("forward"),
        error_at=error_at,
    )


class Tanh(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x))


def tanh(before: int, after: int) -> nn.Module:
    return Tanh(before, after, dtype=torch.float64)


def linear(before: int, after: int) -> nn.Module:
    return nn.Linear(before, after, dtype=torch.float64)


MODEL = Model((partial(tanh, 6, 5), partial(tanh, 5, 4)), partial(linear, 4, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 3, (8,), generator=generator)


def test_the_matrices_take_in_d_times_u_by_hand() -> None:
    """In float64: d = V (u_2 + f'_2 W_2 u_1), and B_i goes from 0 to a small part of d u_i^T."""
    reference, (x, target) = Reference(MODEL, LOSS, rule()), batch()
    first, second = reference.layers
    w2, v = second.parameters["weight"].detach(), reference.head.parameters["weight"].detach()
    h1 = first.module(x).detach()
    h2 = second.module(h1).detach()
    u1, u2 = (
        layer._tangents.direction(0, h, step=0, microbatch=0)
        for layer, h in ((first, h1), (second, h2))
    )
    assert set(u1.unique().tolist()) == {-1.0, 1.0}
    d = (u2 + (1 - h2.square()) * (u1 @ w2.T)) @ v.T
    reference.train_step(0, x, target)
    for layer, u in ((first, u1), (second, u2)):
        found = layer.feedback[0].b
        assert found is not None
        assert torch.allclose(found, AVERAGED * d.T @ u / 8, atol=1e-12)


def test_the_next_step_learns_from_them_by_hand() -> None:
    """In float64: dW_1 = (e B_1 · f'_1)^T x, with the matrix of the step before."""
    reference, (x, target) = Reference(MODEL, LOSS, rule()), batch()
    reference.train_step(0, x, target)
    first = reference.layers[0]
    assert first.feedback[0].b is not None
    b = first.feedback[0].b.clone()
    h1 = first.module(x).detach()
    y = reference.head.module(reference.layers[1].module(h1)).detach()
    e = (y.softmax(1) - nn.functional.one_hot(target, 3)) / 8
    reference.add_gradients(1, x, target)
    wanted = (e @ b * (1 - h1.square())).T @ x
    assert torch.allclose(first.parameters["weight"].grad, wanted, atol=1e-12)


def test_the_average_comes_to_the_jacobian() -> None:
    """The layers stand still: after many steps B_2 is what the head does to h_2, its weights."""
    reference, (x, target) = Reference(MODEL, LOSS, rule(microbatches=2)), batch()
    for step in range(400):
        reference.train_step(step, x, target)
    b, v = reference.layers[1].feedback[0].b, reference.head.parameters["weight"].detach()
    assert b is not None
    assert float((b - v).norm() / v.norm()) < 0.2


@pytest.mark.trains
@pytest.mark.parametrize("error_at", ["output", "input"])
def test_layers_align_better_than_with_random_matrices(error_at: ErrorAt) -> None:
    cosines = []
    for kind in ("forward", "random"):
        r = LearningRule(
            seed=3,
            optimizer=OptimizerSpec(lr=0.05),
            feedback=FeedbackSpec(kind),  # type: ignore[arg-type]
            error_at=error_at,
        )
        reference = Reference(NETWORKS["mlp"], LOSS, r)
        for step in range(100):
            reference.train_step(step, *Noise().batch(step))
        cosines.append(alignment(reference, 100, *Noise().batch(100)))
    assert min(cosines[0]) > max(0.3, min(cosines[1]))


class Sign(torch.autograd.Function):
    """Torch has no forward-mode derivative of it."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class Binary(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Sign.apply(super().forward(x))  # type: ignore[no-untyped-call]
        return out


def test_code_without_such_a_derivative_is_named() -> None:
    model = Model((partial(nn.Linear, 64, 8), partial(Binary, 8, 8)), partial(nn.Linear, 8, 10))
    reference = Reference(model, LOSS, rule())
    with pytest.raises(JobError, match=r"layer 1 .*forward-mode derivatives: use another kind"):
        reference.train_step(0, *Noise().batch(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"staleness": 2}, "feedback.kind=forward changes them"),
        ({"compiled": True}, "compiled: compiled code has no forward-mode"),
        ({"feedback": {"kind": "forward", "sent_as": "int8"}}, "feedback.sent_as: int8"),
        (
            {"resources": {"gpus": 1, "cuda_graphs": True}},
            "cuda_graphs: a captured graph has no forward-mode",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve("digits", {"feedback": {"kind": "forward"}, **settings})
