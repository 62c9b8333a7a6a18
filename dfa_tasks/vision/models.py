"""The image classifiers: tanh MLP, pre-norm residual MLP, small convolutional network."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from dfa_core import Model
from dfa_core.model import ModuleFactory
from dfa_tasks.vision.sizes import check_sizes


def _sequence(*factories: ModuleFactory) -> nn.Module:
    return nn.Sequential(*(factory() for factory in factories))


def mlp(features: int, classes: int, layers: int, width: int) -> Model:
    """Return `layers` tanh layers of `width` and a linear head."""
    check_sizes(layers=layers, width=width)
    widths = [features] + [width] * layers
    return Model(
        layers=tuple(
            partial(_sequence, partial(nn.Linear, a, b), partial(nn.Tanh))
            for a, b in pairwise(widths)
        ),
        head=partial(nn.Linear, width, classes),
    )


class ResidualBlock(nn.Module):
    """x + W2 · relu(W1 · LayerNorm(x)): a pre-norm residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.back = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after this block, with the shape of x."""
        out: Tensor = x + self.back(torch.relu(self.widen(self.norm(x))))
        return out


def residual_mlp(features: int, classes: int, layers: int, width: int) -> Model:
    """Return a linear stem, `layers` pre-norm residual blocks of `width`, and a normed head.

    Take the error at the head's input. There it is as wide as the residual stream, so that identity
    feedback can send it to every block.
    """
    check_sizes(layers=layers, width=width)
    return Model(
        layers=(partial(nn.Linear, features, width), *[partial(ResidualBlock, width)] * layers),
        head=partial(_sequence, partial(nn.LayerNorm, width), partial(nn.Linear, width, classes)),
    )


def convnet(channels: int, side: int, classes: int, width: int) -> Model:
    """Return two convolutions (each 3x3, tanh, halved by pooling), a tanh layer, a linear head."""
    check_sizes(width=width)
    quarter = side // 4
    return Model(
        layers=(
            partial(_convolution, channels, width),
            partial(_convolution, width, 2 * width),
            partial(
                _sequence,
                partial(nn.Flatten),
                partial(nn.Linear, 2 * width * quarter * quarter, 8 * width),
                partial(nn.Tanh),
            ),
        ),
        head=partial(nn.Linear, 8 * width, classes),
    )


def _convolution(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2))
