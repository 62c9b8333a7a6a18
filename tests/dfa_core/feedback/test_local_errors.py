"""Local errors: each layer learns from a linear classifier of its own."""

from functools import partial

import pytest
import torch
from support.networks import NETWORKS, Noise
from torch import nn

from coordinator.job.resolve import resolve
from dfa_core import FeedbackSpec, JobError, LearningRule, Model, OptimizerSpec, Reference

LOSS = nn.functional.cross_entropy
RULE = LearningRule(
    seed=3, microbatches=2, optimizer=OptimizerSpec(lr=0.0), feedback=FeedbackSpec("local")
)


def linear(before: int, after: int) -> nn.Module:
    return nn.Linear(before, after, dtype=torch.float64)


def test_layers_get_the_gradient_of_their_own_classifiers_loss_by_hand() -> None:
    """In float64: for h = W x and logits h C^T, dL/dW and dL/dC of the mean cross entropy."""
    model = Model((partial(linear, 6, 5), partial(linear, 5, 4)), partial(linear, 4, 3))
    reference = Reference(model, LOSS, RULE)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 3, (8,), generator=generator)
    reference.add_gradients(0, x, target)
    one_hot = nn.functional.one_hot(target, 3).double()
    for layer in reference.layers:
        weight, bias = layer.module.weight.detach(), layer.module.bias.detach()  # type: ignore[union-attr]
        c = layer.feedback[0].b
        assert c is not None
        h = x @ weight.T + bias  # type: ignore[operator]
        exponentials = (h @ c.T).exp()
        error = (exponentials / exponentials.sum(1, keepdim=True) - one_hot) / 8
        assert torch.allclose(layer.parameters["weight"].grad, (error @ c).T @ x, atol=1e-12)
        assert torch.allclose(layer.parameters["bias"].grad, (error @ c).sum(0), atol=1e-12)
        assert torch.allclose(c.grad, error.T @ h, atol=1e-12)
        x = h


def test_what_the_head_does_changes_no_layer() -> None:
    """No block waits for the head: with another head, the layers have the same gradients."""
    found = []
    for head in (partial(nn.Linear, 48, 10), partial(nn.Linear, 48, 10, bias=False)):
        layers = NETWORKS["mlp"].layers
        width = layers[-1]().get_parameter("0.weight").shape[0]
        reference = Reference(Model(layers, partial(head.func, width, *head.args[1:])), LOSS, RULE)
        reference.add_gradients(0, *Noise().batch(0))
        found.append([p.grad for layer in reference.layers for p in layer.parameters.values()])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("digits", {"staleness": 2}, "feedback.kind=local changes them"),
        ("digits-residual", {}, "feedback.kind: local replaces the error at the head's output"),
        ("digits", {"faults": {"non_finite": "skip"}}, "feedback.kind=local does not send"),
    ],
)
def test_what_it_cannot_do_is_refused(task: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve(task, {"feedback": {"kind": "local"}, **settings})
