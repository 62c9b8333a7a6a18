"""Recommenders: what of them learns exactly, and where the head may begin."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from coordinator.job.resolve import resolve
from dfa_core import JobError, LearningRule, Model, Reference
from dfa_core.activations import tensors
from dfa_tasks.recommenders.models import afn, autoint, dcn, deepfm
from dfa_tasks.recommenders.tasks import click_loss, click_task

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


@pytest.mark.parametrize(
    ("make", "options", "fewer"),
    [
        *((make, {}, 2 if make is afn else 1) for make in (*WIDE.values(), dcn)),
        (dcn, {"cross_error": False}, 1),
        (afn, {"joint": False}, 1),
    ],
)
def test_a_deeper_head_is_the_same_network(
    make: Maker, options: dict[str, bool], fewer: int
) -> None:
    sizes = {"size": 4, "widths": (8, 8)}
    models = [make(IDS, FIELDS, **sizes), make(IDS, FIELDS, **sizes, head_layers=1, **options)]
    plain, deep = (Reference(model, click_loss, LearningRule()) for model in models)
    assert len(deep.layers) == len(plain.layers) - fewer
    mine = [p for trained in deep.trained_modules() for p in trained.module.parameters()]
    theirs = [p for trained in plain.trained_modules() for p in trained.module.parameters()]
    for a, b in zip(mine, theirs, strict=True):
        a.data.copy_(b.data)
    ids, _ = batch()
    assert torch.allclose(deep.evaluate(ids), plain.evaluate(ids), atol=1e-6)


def test_an_option_of_another_type_is_refused(real_data: Path) -> None:
    with pytest.raises(JobError, match=r"options\.cross_error: 'maybe' is not true or false"):
        click_task("movielens", "dcn", data_dir=str(real_data), cross_error="maybe")


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("sign", "cross_error", False),
        ("target", "head_layers", 0),
        ("local", "head_layers", 0),
    ],
)
def test_feedback_without_the_error_names_the_option_that_helps(
    real_data: Path, kind: str, option: str, value: Any
) -> None:
    settings = {"feedback": {"kind": kind}, "data_dir": str(real_data)}
    remedy = f"use random, or set options.{option}={str(value).lower()}"
    with pytest.raises(JobError, match=rf"^feedback\.kind: {kind} .*; {remedy}$"):
        resolve("movielens-dcn", settings)
    resolve("movielens-dcn", {**settings, "options": {option: value}})


def test_a_layer_of_the_mlp_stays_before_the_head() -> None:
    with pytest.raises(JobError, match=r"options\.head_layers: 2 is not between 0 and 1"):
        dcn(IDS, FIELDS, widths=(8, 8), head_layers=2)


Gradients = list[list[torch.Tensor]]


def local_and_exact(model: Model) -> tuple[Gradients, Gradients]:
    """Return each layer's gradients of a batch, by feedback and by autograd, in float64."""
    reference = Reference(model, click_loss, LearningRule(error_at="input"))
    for trained in reference.trained_modules():
        trained.module.double()
    ids, click = batch()
    reference.add_gradients(0, ids, click.double())
    modules = [layer.module for layer in reference.layers]
    local = [[p.grad.clone() for p in m.parameters() if p.grad is not None] for m in modules]
    h = (ids,)
    for module in modules:
        h = tensors(module(*h))
    loss = click_loss(reference.head.module(*h), click.double())
    exact = [list(torch.autograd.grad(loss, [*m.parameters()], retain_graph=True)) for m in modules]
    return local, exact


def cosine(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    x, y = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (a, b))
    return float(torch.nn.functional.cosine_similarity(x, y, dim=0))


def test_the_last_cross_layer_learns_exactly_and_the_others_nearly() -> None:
    sizes = {"size": 4, "crosses": 3, "widths": (8, 8), "dropout": 0.0}
    local, exact = local_and_exact(dcn(IDS, FIELDS, **sizes, head_layers=1))
    for mine, true in zip(local[3:], exact[3:], strict=True):  # the last cross layer, and the MLP's
        assert true[0].abs().max() > 0
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-14)
    assert all(0.9 < cosine(*pair) < 1 - 1e-9 for pair in zip(local[1:3], exact[1:3], strict=True))
    plain = dcn(IDS, FIELDS, **sizes, head_layers=1, cross_error=False)
    by_feedback, _ = local_and_exact(plain)
    assert all(abs(cosine(*pair)) < 0.9 for pair in zip(by_feedback[1:4], exact[1:4], strict=True))


def test_before_the_head_a_joint_afn_learns_exactly() -> None:
    local, exact = local_and_exact(
        afn(IDS, FIELDS, size=4, neurons=6, widths=(8, 8), dropout=0.0, head_layers=1)
    )
    torch.testing.assert_close(local[1], exact[1], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(local[0][0], exact[0][0], rtol=1e-10, atol=1e-14)  # the linear part
    assert cosine(local[0][1:], exact[0][1:]) < 0.99  # the embeddings learn by feedback


def test_a_state_of_another_network_is_refused_in_one_line() -> None:
    sizes = {"size": 4, "widths": (8, 8), "head_layers": 1}
    models = [dcn(IDS, FIELDS, **sizes, cross_error=value) for value in (False, True)]
    before, now = (Reference(model, click_loss, LearningRule()) for model in models)
    with pytest.raises(JobError, match=r"head: .*: only the saved state has 0\.layers"):
        now.head.load_state(*before.head.state())
    wider = Reference(dcn(IDS, FIELDS, **{**sizes, "widths": (6, 8)}), click_loss, LearningRule())
    with pytest.raises(JobError, match=r"is \(6, 16\) there, and \(8, 16\) here"):
        now.layers[-1].load_state(*wider.layers[-1].state())
