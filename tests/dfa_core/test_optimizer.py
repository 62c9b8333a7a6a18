import copy
import inspect
import math
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from support.networks import NETWORKS, Noise
from torch import Tensor, nn

from dfa_core import JobError, LearningRule, Model, OptimizerSpec, Reference
from dfa_core.optimizer import build_optimizer, optimizer_classes

WEIGHT = [nn.Parameter(torch.ones(2, 2))]


@pytest.mark.parametrize("name", ["sgd", "SGD", "Adam", "adamw", "RMSprop"])
def test_any_case_names_torchs_optimizers(name: str) -> None:
    made = build_optimizer(OptimizerSpec(name, 0.1), WEIGHT)
    assert type(made).__name__.lower() == name.lower()


def test_unknown_names_and_options_say_what_is_near() -> None:
    with pytest.raises(JobError, match="unknown 'adm'; did you mean .*Adam"):
        build_optimizer(OptimizerSpec("adm", 0.1), WEIGHT)
    with pytest.raises(JobError, match="SGD has no 'momentun'; did you mean momentum"):
        build_optimizer(OptimizerSpec("sgd", 0.1, {"momentun": 0.9}), WEIGHT)
    with pytest.raises(JobError, match="refuses its settings"):
        build_optimizer(OptimizerSpec("sgd", 0.1, {"momentum": -1}), WEIGHT)


def test_schedules_are_functions_of_the_step() -> None:
    cosine = OptimizerSpec(lr=2.0, schedule="cosine", warmup_steps=4, total_steps=24)
    assert [cosine.rate(s) for s in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert cosine.rate(4) == 2.0
    assert cosine.rate(14) == pytest.approx(1.0)
    assert cosine.rate(24) == pytest.approx(0.0)
    linear = OptimizerSpec(lr=2.0, schedule="linear", total_steps=10)
    assert [linear.rate(s) for s in (0, 5, 10, 99)] == [2.0, 1.0, 0.0, 0.0]
    assert OptimizerSpec(lr=2.0).rate(10**6) == 2.0
    noam = OptimizerSpec(lr=2.0, schedule="inverse_sqrt", warmup_steps=4)
    assert [noam.rate(s) for s in (0, 3, 4, 15, 63)] == [
        0.5, 2.0, pytest.approx(2 * 0.8**0.5), 1.0, 0.5,
    ]  # fmt: skip


def test_the_rate_of_the_schedule_is_the_one_taken() -> None:
    spec = OptimizerSpec("sgd", 1.0, schedule="linear", total_steps=2)
    r = Reference(NETWORKS["mlp"], nn.functional.cross_entropy, LearningRule(optimizer=spec))
    x, target = Noise().batch(0)
    r.train_step(0, x, target)
    before = r.head.state()[0]["weights/weight"]
    r.train_step(2, x, target)  # the rate is 0 now
    assert torch.equal(r.head.state()[0]["weights/weight"], before)


def test_each_layer_is_clipped_by_its_own_norm() -> None:
    x, target = Noise().batch(0)
    moves = {}
    for clip in (0.0, 1e-3):
        spec = OptimizerSpec("sgd", 1.0, clip_norm=clip)
        r = Reference(NETWORKS["mlp"], nn.functional.cross_entropy, LearningRule(optimizer=spec))
        before = [p.detach().clone() for p in r.layers[1].parameters.values()]
        r.train_step(0, x, target)
        after = r.layers[1].parameters.values()
        moves[clip] = math.sqrt(
            sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
        )
    assert moves[0.0] > 1e-3
    assert moves[1e-3] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", sorted(optimizer_classes()))
def test_every_optimizers_state_survives_saving(name: str) -> None:
    """Train 3 steps, carry the state over to a new model, train both on: the same bits."""
    rule = LearningRule(optimizer=OptimizerSpec(name, 1e-3))
    one, other = (Reference(NETWORKS["mlp"], nn.functional.cross_entropy, rule) for _ in range(2))
    for step in range(3):
        one.train_step(step, *Noise().batch(step))
    for module, same in zip(one.trained_modules(), other.trained_modules(), strict=True):
        same.load_state(*module.state())
    for step in range(3, 6):
        losses = [r.train_step(step, *Noise().batch(step)) for r in (one, other)]
        assert losses[0] == losses[1]


@pytest.mark.parametrize("name", sorted(set(optimizer_classes()) - {"Muon"}))
@pytest.mark.parametrize("laid", ["in order", "transposed"])
def test_every_optimizer_does_as_torchs_own(name: str, laid: str) -> None:
    """Also weights that lie otherwise than their gradients, as those of a sum over replicas do."""
    torch.manual_seed(0)
    start = torch.randn(3, 2) if laid == "in order" else torch.randn(2, 3).T
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    made = build_optimizer(OptimizerSpec(name, 0.1), [ours])
    assert made is not None
    cls: Any = optimizer_classes()[name]
    fuses = "fused" in inspect.signature(cls).parameters
    assert bool(made.defaults.get("fused")) == (fuses and laid == "in order")
    same = cls([theirs], lr=0.1, **({"fused": laid == "in order"} if fuses else {}))
    for optimizer, weight in ((made, ours), (same, theirs)):
        for step in range(3):
            weight.grad = torch.randn(3, 2, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    assert torch.equal(ours, theirs)


class Mixed(nn.Module):
    """A table, a matrix, and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.matrix(self.table(x).mean(1))
        return mixed


def test_muon_trains_matrices_and_adamw_the_rest() -> None:
    """Each does as torch's own; the head is AdamW's, unless the options say otherwise."""
    options = {"weight_decay": 0.05, "betas": [0.8, 0.9], "momentum": 0.9}
    for of_head in (False, True):
        layer_options = {"head": {"matrices": True}} if of_head else {}
        spec = OptimizerSpec("muon", 0.02, options, layer_options, schedule="linear", total_steps=9)
        model = Model((Mixed,), partial(nn.Linear, 3, 2))
        ours = Reference(model, nn.functional.cross_entropy, LearningRule(optimizer=spec))
        modules = [copy.deepcopy(m.module) for m in ours.trained_modules()]
        found = dict(nn.Sequential(*modules).named_parameters())
        matrices = [
            p for n, p in found.items() if n in ("0.matrix.weight", *["1.weight"] * of_head)
        ]
        others = [p for p in found.values() if not any(p is matrix for matrix in matrices)]
        muon = torch.optim.Muon(
            matrices, 0.02, weight_decay=0.05, momentum=0.9, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(others, 0.02, betas=(0.8, 0.9), weight_decay=0.05, fused=True)
        for step in range(3):
            batch = torch.arange(6).view(3, 2) % 5, torch.tensor([0, 1, step % 2])
            ours.add_gradients(step, *batch)
            own = [p for module in ours.trained_modules() for p in module.parameters.values()]
            for p, q in zip(found.values(), own, strict=True):
                p.grad = q.grad.clone()
            for module in ours.trained_modules():
                module.apply_gradients(step)
            for optimizer in (muon, adamw):
                for group in optimizer.param_groups:
                    group["lr"] = spec.rate(step)
                optimizer.step()
            assert all(map(torch.equal, found.values(), own))


@pytest.mark.blocks
def test_no_process_imports_what_torch_compiles_with() -> None:
    """It would take seconds at each start of a worker."""
    code = """
import sys, torch
from torch import nn
from dfa_core import LearningRule, OptimizerSpec, Reference, as_model
network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
for name, method in (("adam", "dfa"), ("muon", "bp")):
    rule = LearningRule(optimizer=OptimizerSpec(name, 0.1, clip_norm=1.0), method=method)
    one = Reference(as_model(network), nn.functional.cross_entropy, rule)
    one.train_step(0, torch.ones(2, 4), torch.zeros(2, dtype=torch.long))
    for module in one.trained_modules():
        module.load_state(*module.state())
assert not {"torch._dynamo", "sympy"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
