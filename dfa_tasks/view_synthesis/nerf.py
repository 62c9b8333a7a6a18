"""Neural radiance fields (Mildenhall 2020), as layers: a coarse network, then a fine one.

Both are chains of layers. The densities of the coarse network choose the points of the fine one, so
the fine network comes after it. The head renders both and has the exact gradient. A sample is a
point on a ray, and the global error has one row per point: first those of the coarse network, then
those of the fine one. Each layer learns from the rows of its own network only.

Names below: n rays, s points on each (c of the coarse network, f of the fine one), w the width.
After h, all layers pass on: the rays (n, 9), the depths of their points (n, s), and in the fine
network the coarse network's output, (n, c, ...), with its depths, (n, c).
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
    """The range of the points on a ray, as multiples of the ray's direction."""

    near: float
    far: float


def encoded(x: Tensor, frequencies: int) -> Tensor:
    """Return x and its sines and cosines, (..., 3) -> (..., 3 + 6 frequencies) (eq. 4).

    It omits the factor pi of the paper's equation, as the authors' program does.
    """
    scales = 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype)
    angles = (x.unsqueeze(-2) * scales.unsqueeze(-1)).flatten(-2)
    return torch.cat([x, angles.sin(), (angles + pi / 2).sin()], dim=-1)


def points_of(rays: Tensor, depths: Tensor) -> Tensor:
    """Return the encoded positions of points, (n, s, 63)."""
    at = rays[:, None, 0:3] + rays[:, None, 3:6] * depths.unsqueeze(-1)
    return encoded(at, POSITION)


def directions_of(rays: Tensor, like: Tensor) -> Tensor:
    """Return the encoded viewing directions of points, (n, s, 27)."""
    return encoded(rays[:, 6:9], DIRECTION).unsqueeze(1).expand(-1, like.shape[1], -1)


class CoarseDepths(nn.Module):
    """Chooses the points of the coarse network: rays (n, 9) -> rays, depths (n, c)."""

    def __init__(self, samples: int, bounds: Bounds) -> None:
        super().__init__()
        self._samples, self._bounds = samples, bounds

    def forward(self, rays: Tensor) -> Activations:
        """Return the rays and the depths."""
        near, far = self._bounds.near, self._bounds.far
        return rays, stratified(rays, self._samples, near, far, drawn=self.training)


class FineDepths(nn.Module):
    """Chooses the points of the fine network: the coarse points, and more where density is high."""

    def __init__(self, samples: int, bounds: Bounds) -> None:
        super().__init__()
        self._samples, self._bounds = samples, bounds

    def forward(self, coarse: Tensor, rays: Tensor, depths: Tensor) -> Activations:
        """Return rays, depths (n, f), and the coarse network's output with its depths.

        coarse: (n, c, ...), whose last number is the density.
        """
        with torch.no_grad():  # as the authors do: no gradient through the depths
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
        """Return h and the other tensors."""
        h = self.map(points_of(rays, depths))
        return (torch.relu(h) if self._activation else h), rays, depths, *coarse


class Hidden(nn.Module):
    """A ReLU layer; skip: whether it also reads the encoded points."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width + (_ENCODED if skip else 0), width)
        self._skip = skip

    def forward(self, h: Tensor, rays: Tensor, depths: Tensor, *coarse: Tensor) -> Activations:
        """Return h and the other tensors."""
        seen = torch.cat([points_of(rays, depths), h], dim=-1) if self._skip else h
        return torch.relu(self.map(seen)), rays, depths, *coarse


class Feature(nn.Module):
    """The density, which learns by its own column of the error, and a feature of width w."""

    learns_by = ("feedback", "error")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map, self.density = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, h: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w), the densities (n, s, 1) and the other tensors."""
        return self.map(h), self.density(h), *along


class Seen(nn.Module):
    """A ReLU layer of half the width; it reads the feature and the viewing direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width + _ENCODED_DIRECTION, width // 2)

    def forward(self, h: Tensor, density: Tensor, rays: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w / 2), the densities and the other tensors."""
        seen = torch.cat([h, directions_of(rays, h)], dim=-1)
        return torch.relu(self.map(seen)), density, rays, *along


class Colour(nn.Module):
    """Colour and density, all that the renderer needs; so the layer learns by the error itself."""

    learns_by = ("error",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width // 2, 3)

    def forward(self, h: Tensor, density: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, 4), or (n, c + s, 4) after a coarse network, and the other tensors."""
        return _with_coarse(torch.cat([self.map(h), density], dim=-1), *along)


class ResidualBlock(nn.Module):
    """h + f(norm(h)) with two maps and a ReLU; the last number of the stream is the density."""

    def __init__(self, width: int, last: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        back = nn.Linear(width, width)
        nn.init.zeros_(back.weight)  # at first, the identity is then the exact feedback
        nn.init.zeros_(back.bias)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), back)
        self._last = last

    def forward(self, h: Tensor, *along: Tensor) -> Activations:
        """Return (n, s, w), or (n, c + s, w) after a fine network, and the other tensors."""
        out = h + self.inner(self.norm(h))
        return _with_coarse(out, *along) if self._last else (out, *along)


def _with_coarse(h: Tensor, rays: Tensor, depths: Tensor, *coarse: Tensor) -> tuple[Tensor, ...]:
    """Append a fine network's rows to the coarse ones; without coarse rows, change nothing."""
    if not coarse:
        return h, rays, depths
    before, *along = coarse
    return torch.cat([before, h], dim=1), rays, depths, *along


def _networks(x: Tensor, coarse: Tensor, fine: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of each network, (n, c, ...) and (n, f, ...); coarse, fine: their depths."""
    return torch.split(x, [coarse.shape[1], fine.shape[1]], dim=1)


class Renderer(nn.Module):
    """The head, which has no weights: it renders the colours of each network, (n, 2, 3)."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds

    def forward(self, raw: Tensor, rays: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the colours; raw: (n, c + f, 4); fine, coarse: their depths."""
        lengths, far = rays[:, 3:6].norm(dim=1), self._bounds.far
        networks = zip(_networks(raw, coarse, fine), (coarse, fine), strict=True)
        return torch.stack([colours(r, depths, lengths, far) for r, depths in networks], dim=1)


class ResidualHead(nn.Module):
    """The head: one small network per residual stream computes its colours; then the renderer."""

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
        """Return the colours of each network, (n, 2, 3); h: (n, c + f, w)."""
        raw = [
            torch.cat([colour(torch.cat([x, directions_of(rays, x)], dim=-1)), x[..., -1:]], dim=-1)
            for colour, x in zip(self.colours, _networks(h, coarse, fine), strict=True)
        ]
        out: Tensor = self.renderer(torch.cat(raw, dim=1), rays, fine, coarse)
        return out


def of_points(factory: ModuleFactory, first: int, points: int) -> nn.Module:
    """Build a layer that learns from the global error's rows of these points."""
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

    trunk: "plain" is the authors': ReLU layers, of which one after the middle reads the encoded
        points again, then a feature and a direction layer. "residual" is a residual stream, whose
        colours the head computes.
    layers: of each trunk.
    coarse: number of points on a ray.
    fine: number of additional points on a ray for the fine network.
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
