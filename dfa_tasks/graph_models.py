"""Graph networks as layers: GCN, Chebyshev, GAT, spline and DNA convolutions.

The graph and its features are loaded by each layer where it lives; what flows between layers is one
vector a node. The convolutions are torch_geometric's, but for the spline's, which there needs a
compiled package.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from dfa_core import Activations, Model
from dfa_core.model import ModuleFactory
from dfa_tasks.planetoid import Graph

Load = Callable[[], Graph]
Kind = Literal["gcn", "cheb", "gat", "spline"]


class SplineConv(nn.Module):
    """Degree-1 B-spline convolution with two control points (Fey 2018), one pseudo-coordinate.

    out_i = root(x_i) + mean over edges j -> i of (1 - u) x_j W_0 + u x_j W_1, u in [0, 1] being the
    edge's coordinate: the degree of i over the largest one.
    """

    degree: Tensor
    u: Tensor

    def __init__(self, before: int, after: int, graph: Graph) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(before, after, bias=False), nn.Linear(before, after, False)
        self.root = nn.Linear(before, after)
        degree = torch.bincount(graph.edges[1], minlength=graph.nodes).float()
        self.register_buffer("degree", degree.clamp(min=1).unsqueeze(1), persistent=False)
        u = (degree / degree.max())[graph.edges[1]].unsqueeze(1)
        self.register_buffer("u", u, persistent=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """(n, before) -> (n, after)."""
        source, target = edges
        near, far = self.near(x), self.far(x)
        messages = (1 - self.u) * near[source] + self.u * far[source]
        summed = torch.zeros_like(near).index_add(0, target, messages)
        out: Tensor = self.root(x) + summed / self.degree
        return out


def convolution(kind: Kind, before: int, after: int, graph: Graph, dropout: float) -> nn.Module:
    """Return a convolution (n, before), (2, m) -> (n, after)."""
    if kind == "spline":
        return SplineConv(before, after, graph)
    from torch_geometric.nn import ChebConv, GATConv, GCNConv  # noqa: PLC0415  # takes seconds

    if kind == "gcn":
        made = GCNConv(before, after, cached=True)
    elif kind == "cheb":
        made = ChebConv(before, after, K=2)
    else:
        heads = 8 if after % 8 == 0 else 1
        made = GATConv(before, after // heads, heads=heads, dropout=dropout)
    found: nn.Module = made
    return found


class Features(nn.Module):
    """The features of the nodes, with dropout drawn for those alone that are not 0.

    They are bags of words, of which one in a hundred is set: drawing for all of them took three
    quarters of a step.
    """

    place: Tensor
    value: Tensor

    def __init__(self, graph: Graph, dropout: float) -> None:
        super().__init__()
        self._shape, self.dropout = graph.features.shape, nn.Dropout(dropout)
        place = graph.features.flatten().nonzero().squeeze(1)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("value", graph.features.flatten()[place], persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Numbers of all nodes, in order, (n,) -> (n, features)."""
        found = self.value.new_zeros(self._shape.numel())
        found[self.place] = self.dropout(self.value)
        return found.view(self._shape)


class GraphLayer(nn.Module):
    """Dropout, a convolution, and an activation; the first one looks the features up."""

    edges: Tensor

    def __init__(
        self,
        kind: Kind,
        load: Load,
        widths: tuple[int | None, int | None],
        dropout: float,
        activation: bool = True,
        residual: bool = False,
    ) -> None:
        """widths: before and after; None stands for the graph's features, or its classes.

        residual: the input is added to the output.
        """
        super().__init__()
        graph = load()
        before = graph.features.shape[1] if widths[0] is None else widths[0]
        after = graph.class_count if widths[1] is None else widths[1]
        self._activation, self._residual = activation, residual
        first = widths[0] is None
        self.before: nn.Module = Features(graph, dropout) if first else nn.Dropout(dropout)
        self.convolution = convolution(kind, before, after, graph, dropout)
        self._act = torch.nn.functional.elu if kind in ("gat", "spline") else torch.relu
        self.register_buffer("edges", graph.edges, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before), or the numbers of the nodes -> (n, after)."""
        out: Tensor = self.convolution(self.before(x), self.edges)
        out = self._act(out) if self._activation else out
        return x + out if self._residual else out


class DnaLayer(nn.Module):
    """Attends, for each neighbour, to all earlier layers' vectors (Fey 2019); they go along."""

    edges: Tensor

    def __init__(self, load: Load, width: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        from torch_geometric.nn import DNAConv  # noqa: PLC0415  # takes seconds

        self.convolution = DNAConv(width, heads, groups, dropout=dropout, cached=True)
        self.register_buffer("edges", load().edges, persistent=False)

    def forward(self, h: Tensor, *earlier: Tensor) -> Activations:
        """(n, width) of the layer before, and of all earlier ones -> one more."""
        history = torch.stack([*reversed(earlier), h], dim=1)
        return torch.relu(self.convolution(history, self.edges)), h, *earlier


class DnaFirst(nn.Module):
    """The features, mapped to the width."""

    features: Tensor

    def __init__(self, load: Load, width: int, dropout: float) -> None:
        super().__init__()
        graph = load()
        self.register_buffer("features", graph.features, persistent=False)
        self.map, self.dropout = nn.Linear(graph.features.shape[1], width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of the nodes (n,) -> (n, width)."""
        out: Tensor = self.dropout(torch.relu(self.map(self.features[x])))
        return out


class DnaHead(nn.Module):
    """A linear map of the last layer's vectors."""

    def __init__(self, load: Load, width: int, dropout: float) -> None:
        super().__init__()
        self.map, self.dropout = nn.Linear(width, load().class_count), nn.Dropout(dropout)

    def forward(self, h: Tensor, *_: Tensor) -> Tensor:
        """(n, width) -> (n, classes)."""
        out: Tensor = self.map(self.dropout(h))
        return out


def graph_network(
    kind: Kind,
    load: Load,
    layers: int = 2,
    width: int = 16,
    dropout: float = 0.5,
    residual: bool = False,
) -> Model:
    """Return `layers` convolutions, the last of which is the head.

    residual: of the layers between the first and the head, for identity feedback.
    """
    layer = partial(GraphLayer, kind, load, dropout=dropout)
    hidden: list[ModuleFactory] = [partial(layer, widths=(None, width))]
    hidden += [partial(layer, widths=(width, width), residual=residual)] * (layers - 2)
    return Model(hidden, partial(layer, widths=(width, None), activation=False))


def dna(
    load: Load,
    layers: int = 5,
    width: int = 128,
    heads: int = 8,
    groups: int = 16,
    dropout: float = 0.5,
) -> Model:
    """Return a network of DNA convolutions (Fey 2019) between two linear maps."""
    hidden: list[ModuleFactory] = [partial(DnaFirst, load, width, dropout)]
    hidden += [partial(DnaLayer, load, width, heads, groups, dropout)] * (layers - 1)
    return Model(hidden, partial(DnaHead, load, width, dropout))
