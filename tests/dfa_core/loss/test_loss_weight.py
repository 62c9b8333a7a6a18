"""A mean that is cut into parts is the mean of the whole, as plain torch computes it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dfa_core import LearningRule, Model, NonFiniteLoss, OptimizerSpec, Reference
from dfa_core.loss import Loss, WeightedLoss, settled
from dfa_core.loss.weights import CalledWeight, CountedWeight, MeasuredWeight
from dfa_core.microbatch import cut

BATCH, LENGTH, CLASSES = 24, 5, 3
CLASS_WEIGHT = torch.tensor([0.2, 1.0, 3.0])


def flat(loss: Callable[..., Tensor], output: Tensor, target: Tensor) -> Tensor:
    return loss(output.flatten(0, 1), target.flatten())


def masked(output: Tensor, target: Tensor) -> Tensor:
    kept = target != -100
    right = F.one_hot(target.clamp(min=0), CLASSES)
    return ((output - right) ** 2).sum(-1)[kept].mean()


def divided(output: Tensor, target: Tensor) -> Tensor:
    each = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
    return each.sum() / (target != -100).sum()


def weighted_by_target(output: Tensor, target: Tensor) -> Tensor:
    weight = torch.where(target < 0, 0.0, CLASS_WEIGHT[target.clamp(min=0)])
    each = F.cross_entropy(output.transpose(1, 2), target, reduction="none")
    return (weight * each).sum() / weight.sum()


def next_token(output: Tensor, target: Tensor) -> Tensor:
    return flat(F.cross_entropy, output[:, :-1], target[:, 1:])


LOSSES: dict[str, tuple[Loss, type | None]] = {
    "ignored": (partial(flat, F.cross_entropy), CountedWeight),
    "a class ignored": (
        lambda o, t: flat(nn.CrossEntropyLoss(ignore_index=1), o, t.clamp(min=0)),
        CalledWeight,
    ),
    "class weights": (partial(flat, nn.CrossEntropyLoss(CLASS_WEIGHT)), CountedWeight),
    "both, smoothed": (
        partial(flat, nn.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.1)),
        CountedWeight,
    ),
    "nll": (
        lambda o, t: F.nll_loss(o.log_softmax(-1).transpose(1, 2), t, CLASS_WEIGHT),
        CountedWeight,
    ),
    "next token": (next_token, CalledWeight),
    "masked": (masked, MeasuredWeight),
    "divided by the mask's sum": (divided, MeasuredWeight),
    "weighted by target": (weighted_by_target, MeasuredWeight),
}
EVEN: dict[str, Loss] = {
    "mse": lambda o, t: F.mse_loss(o[..., 0], t.float()),
    "mean of each sample's mean": lambda o, t: (
        F.cross_entropy(o.transpose(1, 2), t, reduction="none").sum(1)
        / (t != -100).sum(1).clamp(min=1)
    ).mean(),
    "bce": lambda o, t: F.binary_cross_entropy_with_logits(
        o, F.one_hot(t.clamp(min=0), CLASSES).float(), pos_weight=CLASS_WEIGHT
    ),
    "probabilities": lambda o, t: F.cross_entropy(
        o[:, 0], F.one_hot(t[:, 0].clamp(min=0), CLASSES).float()
    ),
    "focal": lambda o, t: (
        F.cross_entropy(o.transpose(1, 2), t.clamp(min=0), reduction="none") ** 2
    ).mean(),
}


def tokens(seed: int, ignored: float = 0.5, samples: int = BATCH) -> tuple[Tensor, Tensor]:
    """Samples of which some have many tokens, some few and some none."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, LENGTH, 4, generator=g)
    target = torch.randint(0, CLASSES, (samples, LENGTH), generator=g)
    share = torch.randint(0, 3, (samples, 1), generator=g) * ignored
    target[torch.rand(samples, LENGTH, generator=g) < share] = -100
    target[-1] = torch.arange(LENGTH) % CLASSES  # at least one sample counts
    return x, target


def network(loss: Loss, microbatches: int, method: str = "bp") -> Reference:
    layers = [partial(nn.Linear, 4, 6), partial(nn.Linear, 6, 6)]
    rule = LearningRule(
        microbatches=microbatches, optimizer=OptimizerSpec("sgd", 0.1), sample_dims=2
    )
    return Reference(
        Model(layers, partial(nn.Linear, 6, CLASSES)), loss, replace(rule, method=method)
    )  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*LOSSES]), st.sampled_from((1, 2, 3, 4, 8, 24)), st.integers(0, 10_000))
def test_any_microbatches_give_loss_and_gradients_of_plain_torch(
    name: str, microbatches: int, seed: int
) -> None:
    loss, _ = LOSSES[name]
    x, target = tokens(seed)
    cut_up = network(loss, microbatches)
    cut_up.settle_loss(x, target)
    plain = nn.Sequential(*(part.module for part in network(loss, 1).trained_modules()))
    expected = loss(plain(x), target)
    expected.backward()
    assert cut_up.add_gradients(0, x, target) == pytest.approx(expected.item(), rel=1e-5)
    ours = [p for part in cut_up.trained_modules() for p in part.parameters.values()]
    for parameter, other in zip(ours, plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_weight_is_found_whatever_the_first_batch_ignores(name: str) -> None:
    loss, kind = LOSSES[name]
    for ignored in (0.0, 0.5):
        _, target = tokens(3, ignored)
        found = settled(loss, torch.randn(6, LENGTH, CLASSES), target.split(6))
        assert isinstance(found.weight, kind or object)
        assert not found.flaw


@pytest.mark.parametrize("name", EVEN)
def test_where_every_sample_counts_the_same_no_bit_changes(name: str) -> None:
    x, target = tokens(5, 0.4)
    found = settled(EVEN[name], torch.randn(6, LENGTH, CLASSES), target.split(6))
    assert found.weight is len
    assert [one.share.parts for one in cut(x, target, 3, found)] == [3.0] * 3


def test_nothing_ignored_gives_exactly_one_of_m_parts() -> None:
    x, target = tokens(1, 0.0)
    for name in ("ignored", "next token", "masked", "divided by the mask's sum"):
        loss, _ = LOSSES[name]
        found = settled(loss, torch.randn(8, LENGTH, CLASSES), target.split(8))
        assert [one.share.parts for one in cut(x, target, 3, found)] == [3.0] * 3


@pytest.mark.parametrize("method", ["dfa", "bp", "shallow"])
def test_a_microbatch_with_nothing_to_learn_from_adds_nothing(method: str) -> None:
    loss = LOSSES["ignored"][0]
    x, target = tokens(2)
    target[:6] = -100
    with_it, without = (network(loss, m, method) for m in (4, 3))
    for reference in (with_it, without):
        reference.settle_loss(x, target)
    losses = with_it.add_gradients(0, x, target), without.add_gradients(0, x[6:], target[6:])
    assert losses[0] == losses[1]
    for one, other in zip(with_it.trained_modules(), without.trained_modules(), strict=True):
        for name, parameter in one.parameters.items():
            grad, again = parameter.grad, other.parameters[name].grad
            if grad is not None and again is not None:
                torch.testing.assert_close(grad, again)


def test_a_batch_with_nothing_to_learn_from_is_as_in_plain_torch() -> None:
    x, target = tokens(2)
    reference = network(LOSSES["ignored"][0], 4)
    reference.settle_loss(x, target)
    with pytest.raises(NonFiniteLoss):
        reference.add_gradients(0, x, torch.full_like(target, -100))


NO_MEANS: dict[str, Loss] = {
    "a sum": lambda o, t: F.mse_loss(o[..., 0], t.float(), reduction="sum"),
    "negatives in the batch": lambda o, t: (
        F.cross_entropy(o[:, 0] @ o[:, 0].T, torch.arange(len(o))) + 0 * t.sum()
    ),
    "a root": lambda o, t: F.mse_loss(o[..., 0], t.float()).sqrt(),
    "weights of the batch": lambda o, t: F.cross_entropy(
        o[:, 0], t[:, 0], 1 / (1 + torch.bincount(t[:, 0], minlength=CLASSES))
    ),
    "two means": lambda o, t: F.cross_entropy(o[:, 0], t[:, 0]) + F.mse_loss(o[:, 1], 0 * o[:, 1]),
}


@pytest.mark.parametrize("name", NO_MEANS)
def test_a_loss_that_is_no_mean_of_its_parts_has_a_flaw(name: str) -> None:
    _, target = tokens(4, 0.5 if name == "two means" else 0.0)
    output = torch.randn(6, LENGTH, CLASSES, generator=torch.Generator().manual_seed(0))
    found = settled(NO_MEANS[name], output, target.split(6))
    assert "as the mean of 4 parts" in found.flaw
    declared = WeightedLoss(NO_MEANS[name], len)
    assert settled(declared, output, target.split(6)) is declared


def test_a_loss_that_draws_is_not_judged_and_none_is_changed_by_looking() -> None:
    _, target = tokens(4, 0.0)
    output = torch.randn(6, LENGTH, CLASSES)

    class Counting(nn.Module):
        calls = 0

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            return F.mse_loss(F.dropout(output[..., 0]), target.float())

    counting, state = Counting(), torch.get_rng_state()
    assert not settled(counting, output, target.split(6)).flaw
    assert counting.calls == 0
    assert torch.equal(torch.get_rng_state(), state)
