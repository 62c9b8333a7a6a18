"""A block that learns by backpropagation, whole or in two parts: the gradients of plain torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
from torch import Tensor, nn
from torch.nn import functional as F

from dfa_core import Head, LearningRule, Model, Reference, build_layers, split
from dfa_core.block.exact_block import ExactBlock
from dfa_core.block.taken_apart import branches
from dfa_core.layer import Layer

RULE = rule("adam", 4, method="bp")
LOSS = F.cross_entropy

pytestmark = pytest.mark.unit


def trained(
    model: Model, r: LearningRule, cuts: Sequence[int], apart: bool, steps: int = 3
) -> list[Tensor]:
    """Train in blocks that end at these layers; return the weights."""
    layers = build_layers(model, 0, len(model.layers), r)
    ends = [*cuts, len(layers)]
    blocks = [ExactBlock(layers[a:b]) for a, b in zip([0, *cuts], ends, strict=True)]
    head = Head(model, LOSS, r)
    for step in range(steps):
        batch = Noise().batch(step)
        parts = [split(tensor, r.microbatches) for tensor in batch]
        for m, (x, target) in enumerate(zip(*parts, strict=True)):
            h = x
            for block in blocks:
                h = block.forward(h, step, m)
            _, gradients = head.backward(h, target, step, m)
            for block in reversed(blocks):
                backward = block.input_gradients if apart else block.update
                gradients = backward(gradients, step, m)
        for block in blocks:
            for m in range(r.microbatches if apart else 0):
                block.weight_gradients(step, m)
            block.step(step)
        head.apply_gradients(step)
    return [v for layer in (*layers, head) for v in layer.state()[0].values()]


@pytest.mark.parametrize("network", [*NETWORKS])
def test_cuts_and_parts_change_no_bit(network: str) -> None:
    model = NETWORKS[network]
    last = len(model.layers)
    reference = Reference(model, LOSS, RULE)
    for step in range(3):
        reference.train_step(step, *Noise().batch(step))
    expected = [v for module in reference.trained_modules() for v in module.state()[0].values()]
    for cuts in ([], [1], [*range(1, last)]):
        for apart in (False, True):
            found = trained(model, RULE, cuts, apart)
            assert all(map(torch.equal, found, expected)), (cuts, apart)


def plain_gradients(modules: Sequence[nn.Module], x: Tensor, target: Tensor) -> list[Tensor | None]:
    h = x
    for module in modules:
        h = module(h)
    LOSS(h, target).backward()
    return [p.grad for module in modules for p in module.parameters()]


class Twice(nn.Module):
    """A weight that is used twice, once on each side of a nonlinearity."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight(torch.tanh(self.weight(x))) + x


class Beside(nn.Module):
    """An output part that no input leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.randn(6))
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * torch.sigmoid(self.row) + self.row.square()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": partial(nn.Linear, 6, 6),
    "normed": lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6)),
    "attention": lambda: nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    "no weights": nn.ReLU,
    "twice": Twice,
    "beside": Beside,
    "gru": lambda: _First(nn.GRU(6, 6, batch_first=True)),
    "in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6)),
}


class _First(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.module(x)[0]
        return first


@pytest.mark.parametrize("name", LAYERS)
def test_any_layer_can_be_taken_apart_or_is_left_whole(name: str) -> None:
    def gradients(apart: bool) -> tuple[list[Tensor | None], Tensor]:
        torch.manual_seed(1)
        modules = [nn.Linear(6, 6), LAYERS[name]()]
        layers = [Layer(i, module, rule()) for i, module in enumerate(modules)]
        block = ExactBlock(layers)
        x = torch.randn(4, 3, 6)
        h = block.forward(x, 0, 0)
        assert isinstance(h, Tensor)
        signal = torch.randn(h.shape)
        if apart:
            block.input_gradients(signal, 0, 0)
            block.weight_gradients(0, 0)
        else:
            block.update(signal, 0, 0)
        found = [p.grad for module in modules for p in module.parameters()]
        torch.manual_seed(1)
        own = [nn.Linear(6, 6), LAYERS[name]()]
        torch.autograd.backward(own[1](own[0](torch.randn(4, 3, 6))), signal)
        for expected, got in zip((p.grad for m in own for p in m.parameters()), found, strict=True):
            assert expected is not None
            torch.testing.assert_close(got, expected)
        return found, h

    whole, parts = gradients(False), gradients(True)
    assert all(map(torch.equal, whole[0], parts[0]))


def test_what_can_be_taken_apart_is() -> None:
    """The weights' products of a layer of linear maps are all left to the second part."""
    layer = LAYERS["normed"]()
    x = torch.randn(4, 6, requires_grad=True)
    weights = list(layer.parameters())
    found = branches([layer(x)], [x], weights)
    assert sorted(len(own) for own in found.values()) == [2, 2, 2]
    assert branches([Twice()(x)], [x], list(Twice().parameters())) == {}


def test_a_batch_without_a_finite_gradient_changes_nothing() -> None:
    r = replace(RULE, skip_non_finite=True)
    layers = build_layers(NETWORKS["batch-norm"], 0, 4, r)
    before = [v.clone() for layer in layers for v in layer.state()[0].values()]
    block = ExactBlock(layers)
    for m, (x, _) in enumerate(zip(*(split(t, 4) for t in Noise().batch(0)), strict=True)):
        h = block.forward(x, 0, m)
        assert isinstance(h, Tensor)
        gradient = torch.full_like(h, torch.inf if m == 2 else 0.1)
        block.update(gradient, 0, m)
    block.step(0)
    after = [v for layer in layers for v in layer.state()[0].values()]
    assert all(map(torch.equal, before, after))
    assert [layer.take_skipped() for layer in layers] == [[0]] * 4
