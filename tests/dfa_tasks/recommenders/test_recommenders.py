"""Recommenders: what of them learns exactly, and where the head may begin."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dfa_core import JobError, LearningRule, Model, Reference
from dfa_tasks.recommenders.models import afn, autoint, dcn, deepfm
from dfa_tasks.recommenders.tasks import click_loss

IDS, FIELDS = 40, 4
WIDE = {"deepfm": deepfm, "autoint": autoint, "afn": afn}
Maker = Callable[..., Model]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, IDS, (16, FIELDS), generator=torch.Generator().manual_seed(0))
    return ids, (ids[:, 0] % 2).float()


def first_gradient(model: Model, method: str, head_layers: int) -> torch.Tensor:
    rule = LearningRule(error_at="input" if head_layers else "output")
    reference = Reference(model, click_loss, replace(rule, method=method))  # type: ignore[arg-type]
    reference.add_gradients(0, *batch())
    gradient = reference.layers[0].parameters["linear.table.weight"].grad
    assert gradient is not None
    return gradient


@pytest.mark.parametrize("head_layers", [0, 1])
@pytest.mark.parametrize("make", WIDE.values(), ids=WIDE)
def test_the_linear_part_learns_exactly(make: Maker, head_layers: int) -> None:
    model = make(IDS, FIELDS, size=4, widths=(8, 8), dropout=0.0, head_layers=head_layers)
    dfa, exact = (first_gradient(model, method, head_layers) for method in ("dfa", "bp"))
    assert exact.abs().max() > 0
    assert torch.allclose(dfa, exact, atol=1e-7)


@pytest.mark.parametrize("make", [*WIDE.values(), dcn], ids=[*WIDE, "dcn"])
def test_a_deeper_head_is_the_same_network(make: Maker) -> None:
    models = [make(IDS, FIELDS, size=4, widths=(8, 8), head_layers=n) for n in (0, 1)]
    plain, deep = (Reference(model, click_loss, LearningRule()) for model in models)
    assert len(deep.layers) == len(plain.layers) - 1
    mine = [p for trained in deep.trained_modules() for p in trained.module.parameters()]
    theirs = [p for trained in plain.trained_modules() for p in trained.module.parameters()]
    for a, b in zip(mine, theirs, strict=True):
        a.data.copy_(b.data)
    ids, _ = batch()
    assert torch.allclose(deep.evaluate(ids), plain.evaluate(ids), atol=1e-6)


def test_a_layer_of_the_mlp_stays_before_the_head() -> None:
    with pytest.raises(JobError, match=r"options\.head_layers: 2 is not between 0 and 1"):
        dcn(IDS, FIELDS, widths=(8, 8), head_layers=2)
