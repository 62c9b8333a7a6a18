"""Random small networks with what users bring: views, in-place operations, frozen parts, ..."""

import itertools
from collections.abc import Callable
from functools import partial

import torch
from hypothesis import strategies as st
from support.networks import Added, Along, Paths
from torch import Tensor, nn

from dfa_core import Model

WIDTH = 16


class Slice(nn.Module):
    """Returns a view of its input that is not contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, ::2]


class Turned(nn.Module):
    """Returns a view of its input with other strides."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (4, -1)).transpose(1, 2)


class InPlace(nn.Module):
    """Changes its input, and returns it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5).add_(1.0)


class Shift(nn.Module):
    """Has a weight of one dimension alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class Tied(nn.Module):
    """Uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(WIDTH, WIDTH)
        self.two = nn.Linear(WIDTH, WIDTH)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.two(torch.tanh(self.one(x))))


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()


def line() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def repeated() -> nn.Module:
    tanh = nn.Tanh()
    return nn.Sequential(tanh, line(), tanh, line(), tanh)


# layers that map (n, WIDTH) to (n, WIDTH)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(line(), nn.Tanh()),
    "in place first": lambda: nn.Sequential(nn.ReLU(inplace=True), line()),
    "in place last": lambda: nn.Sequential(line(), nn.LeakyReLU(inplace=True)),
    "in place dropout": lambda: nn.Sequential(nn.Dropout(0.3, inplace=True), line(), nn.Tanh()),
    "in place alone": InPlace,
    "batch norm": lambda: nn.Sequential(line(), nn.BatchNorm1d(WIDTH), nn.Tanh()),
    "frozen batch norm": lambda: nn.Sequential(line(), frozen(nn.BatchNorm1d(WIDTH)), nn.Tanh()),
    "frozen": lambda: nn.Sequential(frozen(line()), nn.Tanh()),
    "half frozen": lambda: nn.Sequential(frozen(line()), line(), nn.Dropout(0.2).eval()),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.3), line(), nn.LayerNorm(WIDTH)),
    "only dropout": lambda: nn.Dropout(0.2),
    "repeated": repeated,
    "slice": lambda: nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), Slice()),
    "turned": lambda: nn.Sequential(line(), Turned(), nn.Flatten()),
    "view": nn.Flatten,
    "identity": nn.Identity,
    "shift": Shift,
    "tied": Tied,
}


def make(kind: str) -> nn.Module:
    """Build a layer of LAYERS; workers find it by its name."""
    return LAYERS[kind]()


def first(kind: str) -> nn.Module:
    """Build a first layer, (n, 64) to (n, WIDTH)."""
    begin = [nn.ReLU(inplace=True)] if kind == "in place" else [nn.Identity()]
    return nn.Sequential(*begin, nn.Linear(64, WIDTH), nn.Tanh())


def last(kind: str) -> nn.Module:
    """Build a head, (n, WIDTH) to (n, 10)."""
    line = nn.Linear(WIDTH, 10)
    match kind:
        case "in place":
            return nn.Sequential(nn.ReLU(inplace=True), line)
        case "dropout":
            return nn.Sequential(nn.Dropout(0.2), line, nn.Identity())
        case "batch norm":
            return nn.Sequential(nn.BatchNorm1d(WIDTH), line)
    return line


def hands_over(module: nn.Module) -> nn.Module:
    """A factory that returns a module that exists already."""
    return module


def several_tensors(layers: int) -> Model:
    """Build a model of layers that pass on several tensors."""
    inner = [partial(Along, WIDTH, WIDTH)] * (layers - 1)
    return Model((partial(Paths, 64, WIDTH, 10), *inner), partial(Added, WIDTH, 10))


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Draw a model of 2 to 5 layers."""
    head = draw(st.sampled_from(("line", "in place", "dropout", "batch norm")))
    kinds = draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4))
    layers = [partial(first, draw(st.sampled_from(("plain", "in place"))))]
    for kind in kinds:
        exists = draw(st.booleans())
        layers.append(partial(hands_over, make(kind)) if exists else partial(make, kind))
    return Model(layers, partial(last, head))


@st.composite
def cuts(draw: st.DrawFn, layers: int, most: int = 4) -> list[tuple[int, int]]:
    """Draw which layers each of 1 to `most` blocks hosts."""
    inner = st.sets(st.integers(1, layers - 1), max_size=min(most, layers) - 1)
    edges = [0, *sorted(draw(inner)), layers]
    return list(itertools.pairwise(edges))
