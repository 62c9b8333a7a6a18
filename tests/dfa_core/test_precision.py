"""bf16 by autocast: what is computed in it, and what stays fp32."""

import torch
from torch import Tensor, nn

from dfa_core import LearningRule, Model, OptimizerSpec, Reference


class Told(nn.Linear):
    """Says in which numbers it computed."""

    seen: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        Told.seen = out.dtype
        return out


def trained(precision: str) -> Reference:
    model = Model([lambda: Told(8, 16)], lambda: nn.Linear(16, 3))
    rule = LearningRule(optimizer=OptimizerSpec("sgd", 0.1), precision=precision)  # type: ignore[arg-type]
    reference = Reference(model, nn.functional.cross_entropy, rule)
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        x = torch.randn(32, 8, generator=generator)
        reference.train_step(step, x, torch.randint(3, (32,), generator=generator))
    return reference


def test_layers_compute_in_bf16_and_weights_stay_fp32() -> None:
    narrow = trained("bf16")
    assert Told.seen is torch.bfloat16
    assert {p.dtype for part in narrow.parts() for p in part.parameters.values()} == {torch.float32}
    assert narrow.evaluate(torch.randn(4, 8)).dtype is torch.float32
    wide = trained("fp32")
    assert Told.seen is torch.float32
    pairs = zip(narrow.parts(), wide.parts(), strict=True)
    for a, b in ((a.parameters["weight"], b.parameters["weight"]) for a, b in pairs):
        assert not torch.equal(a, b)
        assert torch.allclose(a, b, atol=5e-3)
