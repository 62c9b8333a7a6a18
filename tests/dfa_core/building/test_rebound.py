"""Functions that a module holds, and hooks, work on the copy that is trained, as in plain torch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dfa_core import JobError, LearningRule, Model, Reference
from dfa_core.optimizer import OptimizerSpec
from dfa_core.seeding.draws import Draws

RULE = LearningRule(seed=1, microbatches=1, optimizer=OptimizerSpec("sgd", 0.1))


class Holding(nn.Module):
    """Calls its submodule through what it holds."""

    def __init__(self, hold: Callable[["Holding"], Any]) -> None:
        super().__init__()
        self.line = nn.Linear(6, 6)
        self.held = hold(self)

    def forward(self, x: Tensor) -> Tensor:
        held = self.held
        if isinstance(held, list):
            held = held[0]
        if isinstance(held, dict):
            held = held["run"]
        return held(x)  # type: ignore[no-any-return]


def called(line: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(line(x))


def through(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: run(x)  # noqa: PLW0108  # what is tried is a function in a function


def twice(line: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor, times: int = 2) -> Tensor:
        return x if times == 0 else torch.tanh(line(run(x, times - 1)))

    return run


HOLDS: dict[str, Callable[[Holding], Any]] = {
    "lambda": lambda me: lambda x: torch.tanh(me.line(x)),
    "inner": lambda me: through(lambda x: torch.tanh(me.line(x))),
    "recursive": lambda me: twice(me.line),
    "default": lambda me: lambda x, line=me.line: torch.tanh(line(x)),
    "keyword": lambda me: lambda x, *, line=me.line: torch.tanh(line(x)),
    "partial": lambda me: partial(called, me.line),
    "partial of lambda": lambda me: partial(lambda f, x: f(me.line(x)), torch.tanh),
    "list": lambda me: [lambda x: torch.tanh(me.line(x))],
    "dict": lambda me: {"run": lambda x: torch.tanh(me.line(x))},
    "method": lambda me: me.line.forward,
}


def patched() -> nn.Module:
    line = nn.Linear(6, 6)
    plain = line.forward
    line.forward = lambda x: torch.tanh(plain(x))  # type: ignore[method-assign]
    return line


def hooked() -> nn.Module:
    line = nn.Linear(6, 6)
    line.register_forward_hook(lambda _, __, h: torch.tanh(h) + line.bias)
    return line


def masked() -> nn.Module:
    line, mask = nn.Linear(6, 6), torch.tensor([0.0, 1.0]).repeat(3)
    line.weight.register_hook(lambda g: g * mask)  # type: ignore[no-untyped-call]
    return line


def clipped() -> nn.Module:
    line = nn.Linear(6, 6)

    def clip(weight: Tensor) -> None:
        assert weight.grad is not None
        weight.grad.clamp_(-1e-3, 1e-3)

    line.weight.register_post_accumulate_grad_hook(clip)  # type: ignore[no-untyped-call]
    return line


FACTORIES: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(Holding, hold) for name, hold in HOLDS.items()},
    "patched forward": patched,
    "forward hook": hooked,
    "gradient hook": masked,
    "hook after the gradient": clipped,
}


@pytest.mark.parametrize("name", FACTORIES)
def test_backpropagation_is_that_of_plain_torch(name: str) -> None:
    reference = Reference(
        Model((FACTORIES[name],), partial(nn.Linear, 6, 3)),
        nn.functional.mse_loss,
        replace(RULE, method="bp"),
    )
    torch.manual_seed(0)
    plain = nn.Sequential(FACTORIES[name](), nn.Linear(6, 3))
    with torch.no_grad():
        weights = (p for part in reference.trained_modules() for p in part.parameters.values())
        for p, own in zip(plain.parameters(), weights, strict=True):
            p.copy_(own)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    x, target = torch.randn(8, 6), torch.randn(8, 3)
    before = [p.detach().clone() for p in plain.parameters()]
    for step in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(plain(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        reference.train_step(step, x, target)
    trained = [p for part in reference.trained_modules() for p in part.parameters.values()]
    for p, own, first in zip(plain.parameters(), trained, before, strict=True):
        assert torch.allclose(p, own, atol=1e-6)
        assert not torch.equal(p, first)


def test_the_original_stays_as_it_was() -> None:
    existing = Holding(HOLDS["lambda"])
    weight = existing.line.weight.detach().clone()
    model = Model((lambda: existing,), partial(nn.Linear, 6, 3))
    reference = Reference(model, nn.functional.mse_loss, RULE)
    reference.train_step(0, torch.randn(8, 6), torch.randn(8, 3))
    assert torch.equal(existing.line.weight, weight)
    assert existing.line.weight.grad is None


def test_hooks_on_weights_are_refused_where_copies_of_the_weights_compute() -> None:
    delayed = LearningRule(seed=1, microbatches=1, staleness=1)
    with pytest.raises(JobError, match=r"staleness: layer 0 \(Linear\) has hooks on its weights"):
        Reference(Model((masked,), partial(nn.Linear, 6, 3)), nn.functional.mse_loss, delayed)


def noisy() -> nn.Module:
    line = nn.Linear(6, 6)
    line.register_full_backward_pre_hook(lambda _, g: (g[0] + torch.randn_like(g[0]),))
    return line


def test_a_backward_hook_may_draw() -> None:
    """So it has a seed of its own, and its draws depend on no other layer."""
    reference = Reference(
        Model((noisy, masked), partial(nn.Linear, 6, 3)), nn.functional.mse_loss, RULE
    )
    assert [layer.draws.backward for layer in reference.layers] == [Draws.ANYTHING] * 2
