"""bf16 by autocast: what is computed in it, and what stays fp32."""

import torch
from torch import Tensor, nn

from dfa_core import Activations, LearningRule, Model, OptimizerSpec, Reference
from dfa_core.feedback.matrix import FeedbackSpec


class RecordsDtype(nn.Linear):
    """Records the number format that it computed in."""

    seen: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        RecordsDtype.seen = out.dtype
        return out


def trained(precision: str) -> Reference:
    model = Model([lambda: RecordsDtype(8, 16)], lambda: nn.Linear(16, 3))
    rule = LearningRule(optimizer=OptimizerSpec("sgd", 0.1), precision=precision)  # type: ignore[arg-type]
    reference = Reference(model, nn.functional.cross_entropy, rule)
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        x = torch.randn(32, 8, generator=generator)
        reference.train_step(step, x, torch.randint(3, (32,), generator=generator))
    return reference


def test_layers_compute_in_bf16_and_weights_stay_fp32() -> None:
    narrow = trained("bf16")
    assert RecordsDtype.seen is torch.bfloat16
    assert {p.dtype for module in narrow.trained_modules() for p in module.parameters.values()} == {
        torch.float32
    }
    assert narrow.evaluate(torch.randn(4, 8)).dtype is torch.float32
    wide = trained("fp32")
    assert RecordsDtype.seen is torch.float32
    pairs = zip(narrow.trained_modules(), wide.trained_modules(), strict=True)
    for a, b in ((a.parameters["weight"], b.parameters["weight"]) for a, b in pairs):
        assert not torch.equal(a, b)
        assert torch.allclose(a, b, atol=5e-3)


class Residual(nn.Linear):
    """Adds to what comes in, in its numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Pair(nn.Linear):
    """Two outputs of different numbers."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(x), x


class Joined(nn.Linear):
    """A head that says what it was called with."""

    seen: torch.dtype | None = None

    def forward(self, *h: Tensor) -> Tensor:
        Joined.seen = h[0].dtype
        return super().forward(h[0])


def passed_on(layer: type[nn.Linear]) -> tuple[list[torch.dtype], torch.dtype | None]:
    """Train a step; return what the layer passes on in evaluation, and what the head got."""
    rule = LearningRule(precision="bf16", feedback=FeedbackSpec("learned"))
    model = Model([lambda: layer(8, 8)], lambda: Joined(8, 3))
    reference = Reference(model, nn.functional.cross_entropy, rule)
    reference.train_step(0, torch.randn(4, 8), torch.randint(3, (4,)))
    matrix = reference.layers[0].feedback[0].b
    assert matrix is not None
    assert matrix.dtype is torch.float32
    h: Activations = reference.layers[0].evaluate(torch.randn(4, 8))
    return [one.dtype for one in ((h,) if isinstance(h, Tensor) else h)], Joined.seen


def test_layers_pass_on_what_they_computed_in_and_the_head_gets_fp32() -> None:
    assert passed_on(nn.Linear) == ([torch.bfloat16], torch.float32)
    assert passed_on(Residual) == ([torch.float32], torch.float32)  # the stream keeps its digits
    assert passed_on(Pair) == ([torch.float32, torch.float32], torch.float32)  # they travel as one
