"""A measure that compares each output with every target is told from all others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coordinator.engine.broadcasting import Measure, compares_all_pairs

F = nn.functional
EACH: dict[str, Measure] = {
    "squared": lambda o, t: ((o - t) ** 2).mean(),
    "absolute": lambda o, t: (o - t).abs().mean(),
    "mse_loss": F.mse_loss,
    "huber": F.smooth_l1_loss,
    "same sign": lambda o, t: ((o > 0) == (t > 0)).float().mean(),
    "hinge": lambda o, t: (1 - o * t.sign()).clamp(min=0).mean(),
}


def squeezed(measure: Measure) -> Measure:
    return lambda o, t: measure(o.flatten(), t.flatten())


@pytest.mark.filterwarnings("ignore:Using a target size")
@given(
    st.sampled_from(sorted(EACH)),
    st.integers(3, 20),
    st.sampled_from([((-1, 1), (-1,)), ((-1,), (-1, 1)), ((-1, 1, 1), (-1,))]),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_what_is_broadcast_to_all_pairs_is_found(
    name: str, n: int, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int, alike: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    output, target = torch.randn(2, n, generator=generator)
    target[:2] = torch.tensor([-1, 1])  # all of one sign, the pairs would not differ
    if alike:  # as an untrained network's
        output = 1 + output / 1000
    output, target = output.view(shapes[0]), target.view(shapes[1])
    assert compares_all_pairs(EACH[name], output, target)
    assert not compares_all_pairs(squeezed(EACH[name]), output, target)
    assert not compares_all_pairs(EACH[name], output.flatten(), target.flatten())


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
@settings(deadline=None)
def test_losses_of_classes_are_never_taken_for_it(n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, classes, generator=generator)
    target = torch.randint(0, classes, (n,), generator=generator)
    weights = torch.rand(classes, generator=generator) + 0.1
    for loss in (
        F.cross_entropy,
        nn.CrossEntropyLoss(weights),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.MultiMarginLoss(),
        lambda o, t: (o.argmax(1) == t).float().mean(),
        lambda o, t: contrastive(o),
    ):
        assert not compares_all_pairs(loss, output, target)


def contrastive(output: Tensor) -> Tensor:
    return (output @ output.T).exp().mean()
