"""What is known to draw nothing, or from torch alone, does so; all else may draw from anything."""

import random
import re
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from support.drawing_task import Noisy, noisy_loss
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dfa_core import Block, Chain, Model
from dfa_core.head import Head
from dfa_core.layer import Layer
from dfa_core.rule import LearningRule
from dfa_core.seeding import Draws, draws_of

QUIET: list[nn.Module] = [
    nn.Linear(4, 4),
    nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.GELU(), nn.BatchNorm1d(4), nn.Identity()),
    nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.Flatten()),
    Chain(nn.Linear(4, 4), nn.Softmax(dim=1), nn.PReLU(), nn.Hardtanh()),
]
FROM_TORCH: list[nn.Module] = [
    nn.Dropout(),
    nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout()),
    nn.RReLU(),
    nn.TransformerEncoderLayer(4, 2, 8),
    nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.FractionalMaxPool2d(1, output_size=1)),
    parametrizations.weight_norm(nn.Linear(4, 4)),
]


class Mine(nn.Linear):
    pass


def hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda _, __, out: out + random.random())
    return layer


def patched() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x * random.random()  # type: ignore[method-assign]
    return layer


UNKNOWN: list[Callable[[], nn.Module]] = [
    *(Noisy, partial(Mine, 4, 4), hooked, patched),
    lambda: nn.Sequential(nn.Linear(4, 4), nn.ModuleList([Noisy()])),
    lambda: nn.TransformerEncoderLayer(4, 2, 8, activation=lambda x: x * random.random()),
]


def states() -> tuple[object, ...]:
    numpy = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2:]


@pytest.mark.parametrize("module", QUIET, ids=str)
def test_quiet_modules_draw_nothing(module: nn.Module) -> None:
    assert draws_of(module) is Draws.NOTHING
    before = states()
    module.train()(torch.randn(6, 4, generator=torch.Generator()))
    assert states() == before


@pytest.mark.parametrize("module", FROM_TORCH, ids=lambda module: type(module).__name__)
def test_others_of_torch_draw_from_torch_alone(module: nn.Module) -> None:
    assert draws_of(module) is Draws.TORCH
    before = states()
    module.train()(torch.randn(6, 4, generator=torch.Generator()))
    assert states()[1:] == before[1:]


@pytest.mark.parametrize("make", UNKNOWN)
def test_all_other_code_may_draw_from_anything(make: Callable[[], nn.Module]) -> None:
    assert draws_of(make()) is Draws.ANYTHING


def test_a_hook_on_all_modules_counts() -> None:
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert draws_of(nn.Linear(4, 4)) is Draws.ANYTHING
    finally:
        hook.remove()


def test_losses() -> None:
    cross_entropy = nn.functional.cross_entropy
    for loss in (cross_entropy, partial(cross_entropy, label_smoothing=0.1), nn.MSELoss()):
        assert draws_of(loss) is Draws.NOTHING
    assert draws_of(noisy_loss) is Draws.ANYTHING
    assert draws_of(lambda output, target: cross_entropy(output, target * 1)) is Draws.ANYTHING
    assert draws_of(partial(cross_entropy, weight=noisy_loss)) is Draws.ANYTHING


@pytest.mark.parametrize("package", ["dfa_core", "dfa_tasks"])
def test_no_module_of_ours_draws_from_numpy_or_python(package: str) -> None:
    """draws_of() relies on it."""
    root = Path(__file__).parents[3] / package
    drawing = re.compile(r"^\s*(import random|from random import)|np\.random\.(?!Generator|PCG64)")
    for file in set(root.rglob("*.py")) - {root / "seeding" / "generators.py"}:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if drawing.search(line)], file


def test_what_layers_and_heads_draw_depends_on_names_alone() -> None:
    """Also from NumPy's and Python's generators, in training and in evaluation."""
    rule = LearningRule(seed=3, microbatches=1)
    model, x = Model([Noisy], nn.Identity), torch.ones(4, 8)
    target = torch.zeros(4, dtype=torch.long)

    def outputs() -> list[Tensor]:
        layer, head = Layer(0, model.build_layer(0, 3), rule), Head(model, noisy_loss, rule)
        h = layer.forward(x, step=2, microbatch=0)
        loss, error = head.error(h, target, step=2, microbatch=0)
        return [h, torch.tensor(loss), error, layer.evaluate(x), layer.forward(x, 3, 0)]

    once = outputs()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    for one, other in zip(once, outputs(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(once[0], once[-1])


@pytest.mark.parametrize("cuts", [[2], [1, 1]])
def test_gradients_do_not_depend_on_the_cut_nor_on_what_was_drawn_before(cuts: list[int]) -> None:
    """Noise on gradients is drawn in the backward pass."""
    model = Model([Noisy, partial(nn.Linear, 16, 16)], partial(nn.Linear, 16, 2))
    rule = LearningRule(seed=3, microbatches=1)
    x = torch.ones(4, 8)
    error = torch.ones(4, 2)

    def gradients(cuts: list[int]) -> list[Tensor]:
        layers = [Layer(i, model.build_layer(i, 3), rule) for i in range(2)]
        remaining = iter(layers)
        blocks, h = [Block(list(islice(remaining, size))) for size in cuts], x
        for block in blocks:
            h = block.forward(h, 2, 0)  # type: ignore[assignment]
            random.random()
        for block in blocks:
            block.update(error, 2, 0)
        return [p.grad for layer in layers for p in layer.parameters.values() if p.grad is not None]

    expected = gradients([2])
    random.seed(5)
    found = gradients(cuts)
    assert len(expected) == len(found) == 4
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
