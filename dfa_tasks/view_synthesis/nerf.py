"""Neural radiance fields (Mildenhall 2020), as layers: a coarse network, and a fine one behind it.

Both are chains of layers. The coarse one's densities say where along the rays the fine one looks,
and so the two lie one behind the other; the head renders both, exactly. A sample is a point on a
ray, and the global error has one row a point: first the coarse network's, then the fine one's. Each
layer learns from the rows of its own network alone.

Names below: n rays, s points on each (c of the coarse network, f of the fine one), w the width.
Through all layers go, behind h: the rays (n, 9), the depths of their points (n, s), and in the fine
network what came out of the coarse one, (n, c, ...), with the depths of that, (n, c).
"""

from dataclasses import dataclass
from functools import partial
from math import pi
from typing import Literal

import torch
from torch import Tensor, nn

from dfa_core import Activations, Model
from dfa_core.model import ModuleFactory, chain
from dfa_tasks.view_synthesis.volume import colours, resampled, stratified, weights_of

POSITION, DIRECTION = 10, 4  # frequencies of the encodings
_ENCODED, _ENCODED_DIRECTION = 3 * (1 + 2 * POSITION), 3 * (1 + 2 * DIRECTION)

Trunk = Literal["plain", "residual"]


@dataclass(frozen=True)
class Bounds:
    """Where points are looked for along a ray, as multiples of its direction."""

    near: float
    far: float


def encoded(x: Tensor, frequencies: int) -> Tensor:
    """Return x and its sines and cosines, (..., 3) -> (..., 3 + 6 frequencies) (eq. 4).

    Without the factor pi of the paper's equation, as its authors' program has it.
    """
    scales = 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype)
    angles = (x.unsqueeze(-2) * scales.unsqueeze(-1)).flatten(-2)
    return torch.cat([x, angles.sin(), (angles + pi / 2).sin()], dim=-1)


def points_of(rays: Tensor, depths: Tensor) -> Tensor:
    """Return the encoded positions of points, (n, s, 63)."""
    at = rays[:, None, 0:3] + rays[:, None, 3:6] * depths.unsqueeze(-1)
    return encoded(at, POSITION)


def directions_of(rays: Tensor, like: Tensor) -> Tensor:
    """Return the encoded directions that points are seen from, (n, s, 27)."""
    return encoded(rays[:, 6:9], DIRECTION).unsqueeze(1).expand(-1, like.shape[1], -1)


class CoarseDepths(nn.Module):
    """Where the coarse network looks: rays (n, 9) -> rays, depths (n, c)."""

    def __init__(self, samples: int, bounds: Bounds) -> None:
        super().__init__()
        self._samples, self._bounds = samples, bounds

    def forward(self, rays: Tensor) -> Activations:
        """Return the rays too."""
        near, far = self._bounds.near, self._bounds.far
        return rays, stratified(rays, self._samples, near, far, drawn=self.training)


class FineDepths(nn.Module):
    """Where the fine one looks: there too, and more where the coarse one found something."""

    def __init__(self, samples: int, bounds: Bounds) -> None:
        super().__init__()
        self._samples, self._bounds = samples, bounds

    def forward(self, coarse: Tensor, rays: Tensor, depths: Tensor) -> Activations:
        """Return rays, depths (n, f), and what came out of the coarse network, with its depths.

        coarse: (n, c, ...), of which the last is the density.
        """
        with torch.no_grad():  # as the authors have it: the places are no part of the gradient
            lengths = rays[:, 3:6].norm(dim=1)
            weights = weights_of(coarse[..., -1], depths, lengths, self._bounds.far)
            more = resampled(depths, weights, self._samples, self.training)
        return rays, more, coarse, depths


class First(nn.Module):
    """Encodes the points and maps them: rays, depths, ... -> (n, s, w), rays, depths, ..."""

    def __init__(self, width: int, activation: bool) -> None:
        super().__init__()
        self.map = nn.Linear(_ENCODED, width)
        self._activation = activation

    def forward(self, rays: Tensor, depths: Tensor, *coarse: Tensor) -> Activations:
        """Return h, and what goes along."""
        h = self.map(points_of(rays, depths))
        return (torch.relu(h) if self._activation else h), rays, depths, *coarse


class Hidden(nn.Module):
    """A ReLU layer; skip: it sees the encoded points again."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width + (_ENCODED if skip else 0), width)
        self._skip = skip

    def forward(self, h: Tensor, rays: Tensor, depths: Tensor, *coarse: Tensor) -> Activations:
        """Return h, and what goes along."""
        seen = torch.cat([points_of(rays, depths), h], dim=-1) if self._skip else h
        return torch.relu(self.map(seen)), rays, depths, *coarse


class Feature(nn.Module):
    """The density, which learns by its own part of the error, and a feature of the same width."""

    learns_by = ("feedback", "error")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map, self.density = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, h: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w), the densities (n, s, 1), and what goes along."""
        return self.map(h), self.density(h), *along


class Seen(nn.Module):
    """A ReLU layer, half as wide, of the feature and the direction that it is seen from."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width + _ENCODED_DIRECTION, width // 2)

    def forward(self, h: Tensor, density: Tensor, rays: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w / 2), the densities, and what goes along."""
        seen = torch.cat([h, directions_of(rays, h)], dim=-1)
        return torch.relu(self.map(seen)), density, rays, *along


class Colour(nn.Module):
    """The colour beside the density: all that the renderer needs, and so it learns by the error."""

    learns_by = ("error",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width // 2, 3)

    def forward(self, h: Tensor, density: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, 4), and what goes along; behind a coarse network (n, c + s, 4)."""
        return _with_coarse(torch.cat([self.map(h), density], dim=-1), *along)


class ResidualBlock(nn.Module):
    """h + f(norm(h)) with two maps and a ReLU; the stream's last number is the density."""

    def __init__(self, width: int, last: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        back = nn.Linear(width, width)
        nn.init.zeros_(back.weight)  # so that the identity is the exact feedback at first
        nn.init.zeros_(back.bias)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), back)
        self._last = last

    def forward(self, h: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w), and what goes along; at the end of a fine network (n, c + s, w)."""
        out = h + self.inner(self.norm(h))
        return _with_coarse(out, *along) if self._last else (out, *along)


def _with_coarse(h: Tensor, rays: Tensor, depths: Tensor, *coarse: Tensor) -> tuple[Tensor, ...]:
    """Put a fine network's rows behind the coarse one's; the coarse one's own stay as they are."""
    if not coarse:
        return h, rays, depths
    before, *along = coarse
    return torch.cat([before, h], dim=1), rays, depths, *along


def _networks(x: Tensor, coarse: Tensor, fine: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of each network, (n, c, ...) and (n, f, ...); coarse, fine: depths."""
    return torch.split(x, [coarse.shape[1], fine.shape[1]], dim=1)


class Renderer(nn.Module):
    """The head, which has no weights: what a camera sees by each network, (n, 2, 3)."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds

    def forward(self, raw: Tensor, rays: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the colours; raw: (n, c + f, 4); fine, coarse: depths."""
        lengths, far = rays[:, 3:6].norm(dim=1), self._bounds.far
        networks = zip(_networks(raw, coarse, fine), (coarse, fine), strict=True)
        return torch.stack([colours(r, depths, lengths, far) for r, depths in networks], dim=1)


class ResidualHead(nn.Module):
    """What makes colours of the residual streams, a small network for each, and the renderer."""

    def __init__(self, width: int, bounds: Bounds) -> None:
        super().__init__()
        self.colours = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width + _ENCODED_DIRECTION),
                nn.Linear(width + _ENCODED_DIRECTION, width // 2),
                nn.ReLU(),
                nn.Linear(width // 2, 3),
            )
            for _ in range(2)
        )
        self.renderer = Renderer(bounds)

    def forward(self, h: Tensor, rays: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the colours by each network, (n, 2, 3); h: (n, c + f, w)."""
        raw = [
            torch.cat([colour(torch.cat([x, directions_of(rays, x)], dim=-1)), x[..., -1:]], dim=-1)
            for colour, x in zip(self.colours, _networks(h, coarse, fine), strict=True)
        ]
        out: Tensor = self.renderer(torch.cat(raw, dim=1), rays, fine, coarse)
        return out


def of_points(factory: ModuleFactory, first: int, points: int) -> nn.Module:
    """Build a layer that learns from these points' rows of the global error."""
    module = factory()
    module.learns_from = (first, points)  # type: ignore[assignment]
    return module


def nerf(
    bounds: Bounds,
    trunk: Trunk = "plain",
    layers: int = 8,
    width: int = 256,
    coarse: int = 64,
    fine: int = 128,
) -> Model:
    """Return a coarse and a fine network.

    trunk: plain is the authors': ReLU layers, the encoded points once more behind the middle one,
        a feature and a direction layer; residual: a residual stream, colours made in the head.
    layers: of each trunk; coarse: points on a ray; fine: further ones, for the fine network.
    """
    depths: tuple[ModuleFactory, ModuleFactory] = (
        partial(CoarseDepths, coarse, bounds), partial(FineDepths, fine, bounds)
    )  # fmt: skip
    rows = ((0, coarse), (coarse, coarse + fine))
    make = _plain if trunk == "plain" else _residual
    made = [
        partial(of_points, factory, *of_network)
        for network, of_network in zip(depths, rows, strict=True)
        for factory in make(network, layers, width)
    ]
    head = partial(Renderer if trunk == "plain" else partial(ResidualHead, width), bounds)
    return Model(made, head)


def _plain(depths: ModuleFactory, layers: int, width: int) -> list[ModuleFactory]:
    return [
        partial(chain, depths, partial(First, width, activation=True)),
        *(partial(Hidden, width, skip=i == layers // 2 + 1) for i in range(1, layers)),
        partial(Feature, width),
        partial(Seen, width),
        partial(Colour, width),
    ]


def _residual(depths: ModuleFactory, layers: int, width: int) -> list[ModuleFactory]:
    return [
        partial(chain, depths, partial(First, width, activation=False)),
        *[partial(ResidualBlock, width)] * (layers - 1),
        partial(ResidualBlock, width, last=True),
    ]
