"""docs/how-to/model.md says what a model may contain; every row of its table is tried."""

import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import Doubling
from torch import Tensor, nn

from dfa_core import JobError, LearningRule, Model, Reference, as_model

MODEL_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "model.md"


class Changing(nn.Module):
    """Returns one feature less at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.calls = nn.Linear(8, 8), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.map(x)[:, : 9 - self.calls]


class Pair(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Summed(nn.Linear):
    def forward(self, h: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(h + x)


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.tanh(super().forward(x)))


class Mean(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean()


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random() + float(np.random.rand()) + torch.rand(())


class AddsOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


def line() -> nn.Linear:
    return nn.Linear(8, 8)


def layers(*inner: nn.Module | Callable[[], nn.Module]) -> Model:
    """A dense layer, these, and a head."""
    factories = [one if not isinstance(one, nn.Module) else (lambda one=one: one) for one in inner]
    return Model((lambda: nn.Sequential(line(), nn.Tanh()), *factories), line)


def shared() -> nn.Sequential:
    net = nn.Sequential(line(), nn.Tanh(), line(), nn.Tanh(), line())
    net[2].weight = net[0].weight
    return net


def repeated() -> nn.Sequential:
    act = nn.Tanh()
    return nn.Sequential(line(), act, line(), act, line())


def hooked() -> nn.Module:
    module = line()
    module.register_forward_hook(lambda _, __, h: h + 1)
    module.weight.register_hook(lambda g: g / 2)  # type: ignore[no-untyped-call]
    return module


class HoldsFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = line()
        self.run = lambda x: torch.tanh(self.line(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class OwnTrain(HoldsFunction):
    def train(self, mode: bool = True) -> "OwnTrain":
        super().train(mode)
        self.scale = 2 if mode else 1
        return self


class ExtraState(nn.Linear):
    def get_extra_state(self) -> str:
        return "of mine"

    def set_extra_state(self, state: object) -> None:
        pass


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.ones(8, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.turn).real


def several() -> Model:
    return Model((lambda: Pair(8, 8),), lambda: Summed(8, 8))


MODELS: dict[str, Callable[[], Model | nn.Sequential]] = {
    "a layer that returns a view": lambda: layers(nn.Flatten, nn.Identity),
    "an operation in place": lambda: layers(nn.ReLU(inplace=True), AddsOne),
    "one activation object": repeated,
    "frozen weights": lambda: layers(line().requires_grad_(False)),
    "submodules in evaluation mode": lambda: layers(
        nn.Sequential(line(), nn.BatchNorm1d(8).eval())
    ),
    "batch norm, layer norm": lambda: layers(
        nn.Sequential(line(), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.Dropout())
    ),
    "random numbers of": lambda: layers(Drawing),
    "a layer that returns a tuple": several,
    "one weight used twice": lambda: layers(lambda: Twice(8, 8)),
    "one weight in two layers": shared,
    "factories that return existing": lambda: layers(line(), nn.Sequential(line(), nn.Tanh())),
    "functions and hooks that": lambda: layers(hooked, HoldsFunction),
    "a module's own `train()`": lambda: layers(OwnTrain),
    "a layer or a head that returns the same buffer": lambda: layers(Doubling),
    "extra state": lambda: layers(lambda: ExtraState(8, 8)),
    "sparse gradients, complex weights": lambda: layers(Complex),
    "`nn.utils.weight_norm`": lambda: layers(lambda: nn.utils.weight_norm(line())),
    "`nn.utils.parametrizations`": lambda: layers(
        lambda: nn.utils.parametrizations.weight_norm(line()),
        lambda: nn.utils.parametrizations.spectral_norm(line()),
    ),
    "a lazy module": lambda: layers(lambda: nn.LazyLinear(8)),
    "a layer whose output changes": lambda: layers(Changing),
    "a layer that returns something other": lambda: layers(lambda: Mean(8, 8)),
}


def rows() -> list[list[str]]:
    text = MODEL_PAGE.read_text(encoding="utf-8").split("\n## What your model may contain")[1]
    table = re.findall(r"^\|(.*)\|$", text.split("\n#")[0], flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split(" |")] for line in table[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_the_table_is_true(row: list[str]) -> None:
    contents, verdict, text = row
    (make,) = (make for name, make in MODELS.items() if contents.startswith(name))
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(12, 8, generator=generator), torch.randint(8, (12,))

    def train() -> list[float]:
        model = as_model(make())
        reference = Reference(model, nn.functional.cross_entropy, LearningRule(microbatches=2))
        return [reference.train_step(step, x, target) for step in range(3)]

    if verdict == "works":
        assert all(map(math.isfinite, train()))
    else:
        assert verdict == "refused"
        with pytest.raises(JobError, match=re.escape(text.strip("`"))):
            train()


def test_every_model_has_its_row() -> None:
    contents = [row[0] for row in rows()]
    assert all(any(one.startswith(name) for one in contents) for name in MODELS)
