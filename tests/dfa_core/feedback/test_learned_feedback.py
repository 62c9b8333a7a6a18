"""DKP: feedback matrices that learn with the layers."""

from functools import partial

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
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

LOSS = nn.functional.cross_entropy
SGD = OptimizerSpec(lr=0.1, options={"weight_decay": 0.01})


def trained(kind: str, steps: int) -> Reference:
    feedback = FeedbackSpec(kind=kind)  # type: ignore[arg-type]
    r = LearningRule(seed=3, optimizer=SGD, feedback=feedback)
    reference = Reference(NETWORKS["mlp"], LOSS, r)
    for step in range(steps):
        reference.train_step(step, *Noise().batch(step))
    return reference


def test_the_first_update_is_the_errors_correlation_with_the_output() -> None:
    reference = trained("learned", 0)
    x, target = Noise().batch(0)
    layer = reference.layers[0]
    h = layer.module(x)
    outputs = x
    for one in reference.layers:
        outputs = one.module(outputs)
    logits = reference.head.module(outputs).detach().requires_grad_()
    LOSS(logits, target).backward()
    assert logits.grad is not None
    before = layer.feedback[0].matrix(logits.shape[1], h[0].numel(), h).clone()
    reference.train_step(0, x, target)
    after = layer.feedback[0].b
    wanted = before - 0.1 * (logits.grad.T @ h + 0.01 * before)
    assert after is not None
    assert torch.allclose(after, wanted, atol=1e-6)


@pytest.mark.trains
def test_the_last_matrix_becomes_the_heads_weights() -> None:
    """They get the same updates, and weight decay takes what they began with (Kolen 1994)."""
    cosines = []
    for steps in (1, 3000):
        reference = trained("learned", steps)
        b, weight = reference.layers[-1].feedback[0].b, reference.head.parameters["weight"]
        assert b is not None
        cosines.append(
            float(torch.nn.functional.cosine_similarity(b.flatten(), weight.flatten(), 0))
        )
    assert abs(cosines[0]) < 0.3
    assert cosines[1] > 0.95


@pytest.mark.trains
def test_learned_matrices_align_better_than_fixed_ones() -> None:
    batch = Noise().batch(400)
    learned, fixed = (
        alignment(trained(kind, 400), 400, *batch)[-1] for kind in ("learned", "random")
    )
    assert learned > fixed


def test_alignment_leaves_no_gradient() -> None:
    reference = trained("learned", 3)
    alignment(reference, 3, *Noise().batch(3))
    assert all(
        p.grad is None for module in reference.trained_modules() for p in module.parameters.values()
    )


def test_a_state_from_before_the_first_error_draws_them_anew() -> None:
    r = rule("adam", feedback=FeedbackSpec(kind="learned"))
    reference = Reference(NETWORKS["mlp"], LOSS, r)
    start = [module.state() for module in reference.trained_modules()]
    losses = [reference.train_step(step, *Noise().batch(step)) for step in range(3)]
    for module, state in zip(reference.trained_modules(), start, strict=True):
        module.load_state(*state)
    assert [reference.train_step(step, *Noise().batch(step)) for step in range(3)] == losses


class Twice(nn.Module):
    """A layer with two tensors that learn by feedback."""

    learns_by = ("feedback", "feedback")

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(64, 5), nn.Linear(64, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.tanh(self.left(x)), torch.tanh(self.right(x))


class Joined(nn.Linear):
    """A head that reads both."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return super().forward(torch.cat([left, right], dim=1))


def test_a_layer_with_two_matrices_goes_back_to_a_state() -> None:
    r = rule("adam", feedback=FeedbackSpec(kind="learned"))
    reference = Reference(Model((Twice,), partial(Joined, 12, 10)), LOSS, r)
    for step in range(2):
        reference.train_step(step, *Noise().batch(step))
    states = [module.state() for module in reference.trained_modules()]
    assert {"feedback/0", "feedback/1"} < states[0][0].keys()
    losses = [reference.train_step(step, *Noise().batch(step)) for step in (2, 3, 4)]
    for module, state in zip(reference.trained_modules(), states, strict=True):
        module.go_back()
        module.load_state(*state)
    assert [reference.train_step(step, *Noise().batch(step)) for step in (2, 3, 4)] == losses


def test_delayed_mode_is_refused() -> None:
    with pytest.raises(JobError, match="staleness: delayed mode needs feedback matrices"):
        resolve("digits", {"feedback": {"kind": "learned"}, "staleness": 2})
