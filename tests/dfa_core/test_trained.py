"""What a layer and the head have in common."""

from functools import partial

import pytest
import torch
from support.networks import Doubling
from torch import Tensor, nn

from dfa_core import Head, JobError, LearningRule, Model, Reference
from dfa_core.optimizer import OptimizerSpec


class Noisy(nn.Module):
    """Keeps its own flag of the mode, which train() sets."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.noisy = nn.Linear(4, 4), True

    def train(self, mode: bool = True) -> "Noisy":
        super().train(mode)
        self.noisy = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.line(x))
        return h * 1.5 if self.noisy else h


def test_a_modules_own_train_is_called_after_an_evaluation_too() -> None:
    model = Model((Noisy,), partial(nn.Linear, 4, 2))
    layer = Reference(model, nn.functional.mse_loss, LearningRule()).layers[0]
    x = torch.randn(3, 4)
    before = layer.forward(x, 0, 0)
    layer.evaluate(x)
    assert layer.module.noisy is True
    assert torch.equal(layer.forward(x, 0, 0), before)  # type: ignore[arg-type]


class Frozen(Noisy):
    """A part of it stays in evaluation mode, whatever train() says."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        self.line.eval()
        return self


def test_each_submodule_keeps_its_own_mode() -> None:
    model = Model((Frozen,), partial(nn.Linear, 4, 2))
    layer = Reference(model, nn.functional.mse_loss, LearningRule()).layers[0]
    layer.module.train()
    layer.evaluate(torch.randn(3, 4))
    assert layer.module.training
    assert not layer.module.get_submodule("line").training


class WithExtraState(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def test_a_state_that_only_pickle_could_save_is_refused() -> None:
    model = Model((partial(WithExtraState, 4, 4),), partial(nn.Linear, 4, 2))
    with pytest.raises(JobError, match=r"layer-0000: its extra state '_extra_state' is a dict"):
        Reference(model, nn.functional.mse_loss, LearningRule())


class Reusing(nn.Linear):
    """Returns the same memory each time it evaluates."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        self.memory = getattr(self, "memory", torch.empty(8, 2))
        self.memory[: len(x)].copy_(super().forward(x))
        return self.memory[: len(x)]


def test_an_output_of_the_head_is_not_overwritten_by_the_next_one() -> None:
    head = Head(Model((), partial(Reusing, 4, 2)), nn.functional.mse_loss, LearningRule())
    first, x = head.evaluate(torch.ones(3, 4)), torch.zeros(3, 4)
    kept = first.clone()
    assert not torch.equal(head.evaluate(x), first)
    assert torch.equal(first, kept)


def test_an_output_of_a_layer_is_not_overwritten_by_the_next_microbatch() -> None:
    model = Model((Doubling,), partial(nn.Linear, 4, 2))
    layer = Reference(model, nn.functional.mse_loss, LearningRule(microbatches=2)).layers[0]
    one, other = (layer.forward(torch.full((3, 4), n), 0, m) for m, n in enumerate((1.0, 5.0)))
    assert torch.equal(one, torch.full((3, 4), 2.0))  # type: ignore[arg-type]
    assert torch.equal(other, torch.full((3, 4), 10.0))  # type: ignore[arg-type]


def test_gradients_that_no_fused_optimizer_takes_are_trained_by_the_plain_one() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Parameter(torch.ones(4, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.turn).real

    def table() -> nn.Module:
        return nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Flatten())

    for factory, x in ((Complex, torch.randn(3, 4)), (table, torch.tensor([[1], [2], [4]]))):
        model = Model((factory,), partial(nn.Linear, 4, 2))
        rule = LearningRule(optimizer=OptimizerSpec("sgd", 0.1))
        reference = Reference(model, nn.functional.mse_loss, rule)
        before = [p.detach().clone() for p in reference.layers[0].parameters.values()]
        reference.train_step(0, x, torch.randn(3, 2))
        after = reference.layers[0].parameters.values()
        assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
