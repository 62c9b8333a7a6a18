"""The network of most benchmarks: equal tanh layers and a linear head."""

from functools import partial

from torch import nn

from dfa_core import Model

CLASSES = 10


def tanh_layer(width: int) -> nn.Module:
    """Return one linear map and its activation."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh())


def tanh_network(width: int, layers: int) -> Model:
    """Return a model of `layers` tanh layers."""
    return Model((partial(tanh_layer, width),) * layers, partial(nn.Linear, width, CLASSES))
