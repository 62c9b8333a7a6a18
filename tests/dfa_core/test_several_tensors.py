"""Layers that pass several tensors on: what each learns by, and how they travel."""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from dfa_core import (
    ActivationSpec,
    Block,
    FeedbackSpec,
    Head,
    JobError,
    LearningRule,
    Model,
    OptimizerSpec,
    Reference,
    build_layers,
    profile,
)
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.layer import Layer, LearnsBy


class TwoPaths(nn.Module):
    """A hidden path, one that is added to the output, and one that learns nothing."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("feedback", "error", "nothing")

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.added, self.idle = nn.Linear(4, 6), nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.tanh(self.hidden(x)), self.added(x), self.idle(x).reshape(-1, 2, 1)


class Along(nn.Module):
    """A layer of one path; the others go along."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 6)

    def forward(self, h: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        return torch.tanh(self.hidden(h)), *others


class Added(nn.Module):
    """A head that combines the paths."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8, 3)

    def forward(self, h: Tensor, added: Tensor, idle: Tensor) -> Tensor:
        out: Tensor = self.map(torch.cat([h, idle.flatten(1)], dim=1)) + added
        return out


MODEL = Model((TwoPaths, Along, Along), Added)
RULE = LearningRule(microbatches=2, optimizer=OptimizerSpec("adam", 0.01))
LOSS = nn.functional.cross_entropy


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


class Stream(nn.Module):
    """A residual layer whose stream ends in the head's input."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("identity",)

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + torch.tanh(self.map(x))
        return out


def test_a_stream_learns_by_the_error_and_is_no_part_of_the_head() -> None:
    model = Model((Stream, Stream), partial(nn.Linear, 4, 3))
    rule = replace(RULE, error_at="input")
    weights = []
    for method in ("dfa", "bp", "shallow"):
        reference = Reference(model, LOSS, replace(rule, method=method))  # type: ignore[arg-type]
        reference.add_gradients(0, *batch(0))
        weights.append([layer.module.map.weight.grad for layer in reference.layers])
    local, exact, shallow = weights
    assert torch.equal(local[1], exact[1])
    assert 0.9 < torch.cosine_similarity(local[0].flatten(), exact[0].flatten(), dim=0) < 0.9999
    assert shallow == [None, None]


class Reading(Along):
    """A layer whose feedback projects the first two features of the error."""

    feedback_reads = 2


@pytest.mark.parametrize("kind", ["random", "learned"])
def test_feedback_may_project_some_of_the_errors_features(kind: FeedbackKind) -> None:
    rule = replace(RULE, feedback=FeedbackSpec(kind))
    h = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer, e = Layer(1, Reading(), rule), torch.randn(4, 5)
    _, (signal,) = layer.learning_signals(e, h)
    (b,) = [feedback.b for feedback in layer.feedback]
    assert b is not None
    assert b.shape == (2, 6)
    torch.testing.assert_close(signal, (e[:, :2] @ b).detach())
    assert (b.grad is not None) == (kind == "learned")


def test_hops_are_for_layers_that_learn_by_feedback() -> None:
    rule = replace(RULE, error_at="input", feedback=FeedbackSpec("identity", hops=1))
    model = Model((Stream, Stream), partial(nn.Linear, 4, 3))
    with pytest.raises(JobError, match="learns by the error itself; hops are for residual"):
        Reference(model, LOSS, rule).add_gradients(0, *batch(0))


def test_what_is_added_to_the_output_learns_exactly_and_the_rest_as_it_says() -> None:
    one, exact = (Reference(MODEL, LOSS, replace(RULE, method=method)) for method in ("dfa", "bp"))
    for reference in (one, exact):
        reference.add_gradients(0, *batch(0))
    ours, theirs = one.layers[0].module, exact.layers[0].module
    assert torch.allclose(ours.added.weight.grad, theirs.added.weight.grad, atol=1e-7)
    assert ours.hidden.weight.grad is not None
    assert not torch.allclose(ours.hidden.weight.grad, theirs.hidden.weight.grad, atol=1e-4)
    assert ours.idle.weight.grad is None
    assert theirs.idle.weight.grad is not None


def test_shallow_trains_the_head_and_what_is_added_to_it() -> None:
    reference = Reference(MODEL, LOSS, replace(RULE, method="shallow"))
    before = {n: t.clone() for n, t in reference.layers[0].module.state_dict().items()}
    reference.train_step(0, *batch(0))
    after = reference.layers[0].module.state_dict()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved == {"added.weight", "added.bias"}


@pytest.mark.parametrize("cut", [(3,), (1, 2), (1, 1, 1)])
def test_blocks_that_pass_messages_equal_the_reference(cut: tuple[int, ...]) -> None:
    reference = Reference(MODEL, LOSS, RULE)
    ends = [sum(cut[: k + 1]) for k in range(len(cut))]
    blocks = [
        Block(build_layers(MODEL, end - n, end, RULE)) for end, n in zip(ends, cut, strict=True)
    ]
    head = Head(MODEL, LOSS, RULE)
    x, target = batch(0)
    measured = profile(MODEL, LOSS, RULE, x[:4], target[:4])
    for step in range(3):
        x, target = batch(step)
        reference.train_step(step, x, target)
        for m in range(2):
            h = x[4 * m : 4 * m + 4]
            for block, end in zip(blocks, ends, strict=True):
                h = block.forward(h, step, m)
                message = ActivationSpec.of(h).pack(h)
                assert message.shape[1:] == measured.between[end].message.shape
                h = measured.between[end].unpack(message.clone())
            _, error = head.error(h, target[4 * m : 4 * m + 4], step, m)
            for block in blocks:
                block.update(error, step, m)
        for block in blocks:
            block.step(step)
        head.apply_gradients(step)
    parts = [*(layer for block in blocks for layer in block.layers), head]
    for ours, theirs in zip(parts, reference.trained_modules(), strict=True):
        one, other = ours.state()[0], theirs.state()[0]
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_message_gives_back_each_tensor() -> None:
    h = (torch.randn(5, 2, 3), torch.randn(5, 1), torch.randn(5, 4))
    spec = ActivationSpec.of(h)
    assert spec.bytes == 4 * 11
    back = spec.unpack(spec.pack(h))
    assert all(torch.equal(a, b) and b.is_contiguous() for a, b in zip(h, back, strict=True))


def test_a_narrow_message_has_half_the_bytes() -> None:
    h = tuple(t.bfloat16().float() for t in (torch.randn(5, 2, 3), torch.randn(5, 4)))
    spec = ActivationSpec.of(h, narrow=True)
    assert (spec.bytes, spec.message.bytes) == (40, 20)
    back = spec.unpack(spec.pack(h))
    assert all(torch.equal(a, b) and b.dtype == a.dtype for a, b in zip(h, back, strict=True))
    whole = torch.ones(5, 2, dtype=torch.int64)  # tokens: they are what they are
    assert not ActivationSpec.of(whole, narrow=True).narrow


def test_two_dtypes_cannot_travel_together() -> None:
    with pytest.raises(JobError, match="one dtype, not torch.float32, torch.int64"):
        ActivationSpec.of((torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.int64)))


def test_what_learns_by_the_error_must_have_its_shape() -> None:
    class Wrong(TwoPaths):
        learns_by: ClassVar[tuple[LearnsBy, ...]] = ("error", "error", "nothing")

    reference = Reference(Model((Wrong,), Added), LOSS, RULE)
    with pytest.raises(
        JobError, match=r"must have its shape \(4, 3\), or fewer features, not \(4, 6\)"
    ):
        reference.train_step(0, *batch(0))


def test_a_tuple_of_something_else_is_named() -> None:
    class Bad(TwoPaths):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return super().forward(x)[0], 3  # type: ignore[return-value]

    reference = Reference(Model((partial(Bad),), Added), LOSS, RULE)
    with pytest.raises(JobError, match="returned int for 4 samples"):
        reference.train_step(0, *batch(0))
