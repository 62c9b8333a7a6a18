"""The forms that a trial finds before training are those of every later evaluation."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import rule, stack
from torch import Tensor, nn

from dfa_core import ActivationSpec, Block, JobError, Model, Reference, TensorSpec
from dfa_core.balance.trial import Trial, try_out

CPU, CHANNELS = torch.device("cpu"), 3


class Doubled(nn.Module):
    """In evaluation it returns another form than in training: twice as many channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else torch.cat([x, x], dim=1)


class WithItsInput(nn.Module):
    """Passes its input on beside its output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        return self.conv(x), x, *others


class First(nn.Module):
    """Of several tensors, passes on the first, pooled to some size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(size)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled.relu()


class Mean(nn.Module):
    """A head that takes any form."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True) * self.scale


KINDS = {
    "convolution": partial(nn.Conv2d, CHANNELS, CHANNELS, 3, padding=1),
    "stride": partial(stack, partial(nn.Conv2d, CHANNELS, CHANNELS, 2, stride=2), partial(nn.Tanh)),
    "beside": WithItsInput,
    "pooled": partial(First, 4),
    "first": partial(First, 7),
    "normed": partial(stack, partial(nn.BatchNorm2d, CHANNELS), partial(nn.Dropout, 0.5)),
}
SINGLE = ("convolution", "stride", "normed")  # these take one tensor


@st.composite
def networks(draw: st.DrawFn) -> Model:
    kinds, several = [], False
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([k for k in KINDS if not (several and k in SINGLE)]))
        several = kind == "beside"
        kinds.append(KINDS[kind])
    return Model(tuple(kinds), Mean)


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_blocks_that_pass_what_the_trial_found_equal_the_reference(data: st.DataObject) -> None:
    model, narrow = data.draw(networks()), data.draw(st.booleans())
    r = rule(activations="bf16" if narrow else "fp32")
    sizes = data.draw(st.lists(st.integers(20, 30), min_size=2, max_size=2))
    trained, tested = (torch.randn(5, CHANNELS, size, size) for size in sizes)
    target = torch.zeros(5, dtype=torch.int64)
    trials = [Trial("training", trained, target)]
    trials.append(Trial("test", tested[:2], target, TensorSpec.of(trained)))
    head = try_out(model, nn.functional.cross_entropy, r, trials, CPU)
    assert torch.equal(trials[1].output, head.evaluate(trials[1].h))
    reference = Reference(model, nn.functional.cross_entropy, r)
    reference.train_step(0, trained, target)
    expected = reference.evaluate(tested)
    between, h = trials[1].between, tested
    for number, layer in enumerate(reference.layers):
        h = Block([layer]).evaluate(h)  # type: ignore[assignment]
        spec = between[number + 1]
        spec.check(h, layer.label)
        message = spec.pack(h)
        assert message.shape[1:] == spec.message.shape
        assert message.dtype == spec.message.dtype
        h = spec.unpack(message.clone())  # type: ignore[assignment]
    assert torch.equal(reference.head.evaluate(h), expected)


def test_an_evaluation_may_have_forms_of_its_own() -> None:
    model = Model((Doubled, partial(First, 4)), Mean)
    x, target = torch.randn(4, CHANNELS, 8, 8), torch.zeros(4, dtype=torch.int64)
    trials = [Trial("training", x, target), Trial("test", x, target, TensorSpec.of(x))]
    try_out(model, nn.functional.cross_entropy, rule(), trials, CPU)
    assert [trial.between[1].shape for trial in trials] == [(3, 8, 8), (6, 8, 8)]


forms = st.tuples(
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from((torch.float32, torch.float64, torch.int64, torch.bfloat16)),
)


@given(st.lists(forms, min_size=1, max_size=3), st.lists(forms, min_size=1, max_size=3))
@settings(deadline=None)
def test_activations_pass_only_in_the_form_agreed(one: list[Any], other: list[Any]) -> None:
    ours, theirs = (
        tuple(torch.zeros(2, *shape, dtype=dtype) for shape, dtype in several)
        for several in (one, other)
    )
    same = tuple(map(TensorSpec.of, ours)) == tuple(map(TensorSpec.of, theirs))
    spec = ActivationSpec(tuple(map(TensorSpec.of, ours)))
    spec.check(ours if len(ours) > 1 else ours[0], "layer 3")
    if same:
        spec.check(theirs, "layer 3")
    else:
        with pytest.raises(JobError, match=r"^layer 3: samples of \(.* was expected$"):
            spec.check(theirs, "layer 3")


def test_the_layer_that_fails_and_the_part_of_the_data_are_named() -> None:
    model = Model((partial(nn.Linear, 6, 4), partial(nn.Linear, 5, 4)), partial(nn.Linear, 4, 3))
    right = Model((partial(nn.Linear, 6, 4),), partial(nn.Linear, 4, 3))
    x, target = torch.randn(4, 6), torch.zeros(4, dtype=torch.int64)
    loss, form = nn.functional.cross_entropy, TensorSpec.of(x)

    def refused(model: Model, *trials: Trial) -> str:
        with pytest.raises(JobError) as raised:
            try_out(model, loss, rule(), trials, CPU)
        return str(raised.value)

    said = refused(model, Trial("training", x, target))
    assert said.startswith("the training data: at step 0, layer 1 (Linear) fails on an input of")
    said = refused(right, Trial("training", x, target + 3))
    assert said.endswith("targets of (4,) int64: Target 3 is out of bounds.")
    said = refused(right, Trial("test", x.double(), target, form))
    assert said.startswith(
        "the test data, with samples of (6,) float64 where the training data has (6,) float32: "
        "layer 0 (Linear) fails on an input of (4, 6) float64: "
    )
    assert said.endswith("give it the form of the training data")


def test_one_layer_at_a_time_is_in_memory() -> None:
    alive: set[int] = set()
    most = 0

    class Counted(nn.Linear):
        def __init__(self) -> None:
            nonlocal most
            super().__init__(6, 6)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    x, target = torch.randn(4, 6), torch.zeros(4, dtype=torch.int64)
    model = Model((Counted,) * 6, partial(nn.Linear, 6, 3))
    trials = [Trial("training", x, target), Trial("test", x, target, TensorSpec.of(x))]
    try_out(model, nn.functional.cross_entropy, rule(), trials, CPU)
    assert most <= 2
