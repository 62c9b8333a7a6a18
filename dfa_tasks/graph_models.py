"""Graph networks as layers: GCN, Chebyshev, GAT, spline and DNA convolutions.

The graph and its features are loaded by each layer where it lives; what flows between layers is one
vector a node. The convolutions are torch_geometric's, but for the spline's, which there needs a
compiled package.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfa_core import Activations, Model
from dfa_core.model import ModuleFactory
from dfa_tasks.planetoid import Graph

Load = Callable[[], Graph]
Kind = Literal["gcn", "cheb", "gat", "spline"]


class WordMap(nn.Module):
    """The first layer's linear map: of the words of each node's paper, with dropout of words.

    One word in a hundred is there. To multiply the others by weights, and to draw which of them to
    drop, took nine tenths of a step.
    """

    words: Tensor
    values: Tensor
    starts: Tensor

    def __init__(self, graph: Graph, after: int, dropout: float) -> None:
        super().__init__()
        self.bag, self.dropout = (
            nn.EmbeddingBag(graph.features.shape[1], after),
            nn.Dropout(dropout),
        )
        node, words = graph.features.nonzero(as_tuple=True)
        counts = torch.bincount(node, minlength=graph.nodes)
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("values", graph.features[node, words], persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Numbers of all nodes, in order, (n,) -> (n, after)."""
        values, weight = self.dropout(self.values), self.bag.weight
        return nn.functional.embedding_bag(
            self.words, weight, self.starts, mode="sum", per_sample_weights=values
        )


class SplineConv(nn.Module):
    """Degree-1 B-spline convolution with two control points (Fey 2018), one pseudo-coordinate.

    out_i = x_i W_2 + mean over edges j -> i of (1 - u) x_j W_0 + u x_j W_1, u in [0, 1] being the
    edge's coordinate: the degree of i over the largest one.
    """

    degree: Tensor
    u: Tensor

    def __init__(self, after: int, graph: Graph) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(after))
        degree = torch.bincount(graph.edges[1], minlength=graph.nodes).float()
        self.register_buffer("degree", degree.clamp(min=1).unsqueeze(1), persistent=False)
        u = (degree / degree.max())[graph.edges[1]].unsqueeze(1)
        self.register_buffer("u", u, persistent=False)

    def forward(self, mapped: Tensor, edges: Tensor) -> Tensor:
        """Three maps of the nodes, (n, 3·after) -> (n, after)."""
        source, target = edges
        near, far, own = mapped.chunk(3, dim=1)
        messages = (1 - self.u) * near[source] + self.u * far[source]
        summed = torch.zeros_like(near).index_add(0, target, messages)
        return own + summed / self.degree + self.bias


class Part(nn.Module):
    """One of the equal parts that a map's output has."""

    def __init__(self, index: int, parts: int) -> None:
        super().__init__()
        self._index, self._parts = index, parts

    def forward(self, mapped: Tensor) -> Tensor:
        """(n, parts·after) -> (n, after)."""
        return mapped.chunk(self._parts, dim=1)[self._index]


MAPS: Mapping[Kind, int] = {"gcn": 1, "cheb": 2, "gat": 1, "spline": 3}  # of each convolution


def mixing(kind: Kind, after: int, graph: Graph, dropout: float) -> nn.Module:
    """Return a convolution without its linear maps: (n, maps·after), (2, m) -> (n, after)."""
    if kind == "spline":
        return SplineConv(after, graph)
    from torch_geometric.nn import ChebConv, GATConv, GCNConv  # noqa: PLC0415  # takes seconds

    made: Any
    if kind == "gcn":
        made = GCNConv(after, after, cached=True)
        made.lin = nn.Identity()
    elif kind == "cheb":
        made = ChebConv(2 * after, after, K=2)
        made.lins = nn.ModuleList([Part(0, 2), Part(1, 2)])
    else:
        heads = 8 if after % 8 == 0 else 1
        made = GATConv(after, after // heads, heads=heads, dropout=dropout)
        made.lin = nn.Identity()
    found: nn.Module = made
    return found


class GraphLayer(nn.Module):
    """Dropout, a convolution, and an activation; the first one looks the features up.

    The convolution's linear maps come first, as they may: what goes along the edges then is as wide
    as the output and not as the input.
    """

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
        before, after = widths[0], graph.class_count if widths[1] is None else widths[1]
        self._activation, self._residual = activation, residual
        if before is None:
            words = WordMap(graph, MAPS[kind] * after, dropout)
            self.map: nn.Module = words
            weight = words.bag.weight.T
        else:
            linear = nn.Linear(before, MAPS[kind] * after, bias=False)
            self.map = nn.Sequential(nn.Dropout(dropout), linear)
            weight = linear.weight
        for one in weight.chunk(MAPS[kind]):
            nn.init.xavier_uniform_(one)  # as torch_geometric begins
        self.mix = mixing(kind, after, graph, dropout)
        self._act = torch.nn.functional.elu if kind in ("gat", "spline") else torch.relu
        self.register_buffer("edges", graph.edges, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before), or the numbers of the nodes -> (n, after)."""
        out: Tensor = self.mix(self.map(x), self.edges)
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

    def __init__(self, load: Load, width: int, dropout: float) -> None:
        super().__init__()
        self.map, self.dropout = WordMap(load(), width, dropout=0.0), nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.map.bag.weight)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of the nodes (n,) -> (n, width)."""
        out: Tensor = self.dropout(torch.relu(self.map(x) + self.bias))
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

    residual: of the layers between the first and the head, for identity feedback with the error
        at the head's input.
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
