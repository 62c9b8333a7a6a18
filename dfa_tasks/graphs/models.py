"""Graph networks as layers: GCN, Chebyshev, GAT, spline and DNA convolutions.

Each layer loads the graph and its features on its own worker. One vector per node goes from layer
to layer.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dfa_core import Activations, JobError, Model
from dfa_core.model import ModuleFactory
from dfa_tasks.graphs.convolutions import (
    MAPS,
    ConvolutionKind,
    SparseMixing,
    WordMap,
    adjacency,
    gathering,
    mixing,
)
from dfa_tasks.graphs.planetoid import Graph

Load = Callable[[], Graph]


class GraphLayer(nn.Module):
    """Dropout, a convolution, and an activation; the first layer reads the graph's features."""

    edges: Tensor

    def __init__(
        self,
        kind: ConvolutionKind,
        load: Load,
        widths: tuple[int | None, int | None],
        dropout: float,
        activation: bool = True,
        residual: bool = False,
        sparse: bool = False,
    ) -> None:
        """widths: of input and output; None means the graph's features, or its classes.

        residual: whether to add the input to the output. sparse: whether to sum along the edges by
        the product with a sparse matrix.
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
            nn.init.xavier_uniform_(one)  # the initial values of torch_geometric
        self.mix = SparseMixing(after) if sparse else mixing(kind, after, graph, dropout)
        self._act = activation_of(kind)
        edges = adjacency(graph) if sparse else graph.edges
        self.register_buffer("edges", edges, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before), or the numbers of the nodes, (n,) -> (n, after)."""
        out: Tensor = self.mix(self.map(x), self.edges)
        out = self._act(out) if self._activation else out
        return x + out if self._residual else out


class GatheredMap(nn.Linear):
    """A convolution's maps, applied after the sum along the edges."""

    def __init__(self, kind: ConvolutionKind, load: Load, before: int, after: int | None) -> None:
        """after: None means the number of the graph's classes."""
        after = load().class_count if after is None else after
        super().__init__(MAPS[kind] * before, after)
        for one in self.weight.chunk(MAPS[kind], dim=1):
            nn.init.xavier_uniform_(one)
        nn.init.zeros_(self.bias)


class GatheringLayer(nn.Module):
    """A convolution, its activation, dropout, and the next convolution's sum along the edges.

    The network is cut after that sum, which has no weights, instead of before it. The error of a
    node then reaches all nodes that contribute to its output. In the citation graphs only one node
    in twenty has an error of its own.
    """

    edges: Tensor

    def __init__(
        self, kind: ConvolutionKind, load: Load, before: int | None, after: int, dropout: float
    ) -> None:
        """before: None means the graph's features."""
        super().__init__()
        graph = load()
        self.read: nn.Module = (
            GraphLayer(kind, load, (None, after), dropout, activation=False)
            if before is None
            else GatheredMap(kind, load, before, after)
        )
        self.dropout, self._act = nn.Dropout(dropout), activation_of(kind)
        self.gather = gathering(kind, after, graph)
        self.register_buffer("edges", graph.edges, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, maps·before), or the numbers of the nodes, (n,) -> (n, maps·after)."""
        out: Tensor = self.gather(self.dropout(self._act(self.read(x))), self.edges)
        return out


def activation_of(kind: ConvolutionKind) -> Callable[[Tensor], Tensor]:
    """Return the activation that the authors of a convolution use."""
    return torch.nn.functional.elu if kind in ("gat", "spline") else torch.relu


class DnaLayer(nn.Module):
    """Attends, for each neighbour, to the vectors of all earlier layers (Fey 2019)."""

    edges: Tensor

    def __init__(self, load: Load, width: int, heads: int, groups: int, dropout: float) -> None:
        super().__init__()
        from torch_geometric.nn import DNAConv  # noqa: PLC0415  # takes seconds

        self.convolution = DNAConv(width, heads, groups, dropout=dropout, cached=True)
        self.register_buffer("edges", load().edges, persistent=False)

    def forward(self, h: Tensor, *earlier: Tensor) -> Activations:
        """(n, width) of each earlier layer, newest first -> the same with one more in front."""
        history = torch.stack([*reversed(earlier), h], dim=1)
        return torch.relu(self.convolution(history, self.edges)), h, *earlier


class DnaFirst(nn.Module):
    """The first layer: maps the features to the width."""

    def __init__(self, load: Load, width: int, dropout: float) -> None:
        super().__init__()
        self.map, self.dropout = WordMap(load(), width, dropout=0.0), nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.map.bag.weight)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of the nodes, (n,) -> (n, width)."""
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
    kind: ConvolutionKind,
    load: Load,
    layers: int = 2,
    width: int = 16,
    dropout: float = 0.5,
    residual: bool = False,
    gathered: bool = False,
    sparse: bool = False,
) -> Model:
    """Return `layers` convolutions; the last one is the head.

    residual: adds the input to the output in the layers between the first and the head, for
        identity feedback with the error at the head's input.
    gathered: cuts the same network after the sums along the edges instead of before them.
    sparse: sums along the edges by the product with a sparse matrix; on a large graph that takes a
        quarter of the time.

    Raises JobError for a kind of network that cannot be cut there, or has no such matrix.
    """
    if sparse and (gathered or kind != "gcn"):
        raise JobError("options.sparse: is for a GCN that is not gathered; set it to false")
    if gathered and (residual or kind == "gat"):
        raise JobError(
            f"options.gathered: {'a residual' if residual else 'an attention'} network "
            f"gathers values that its layers' weights change; set it to false"
        )
    if gathered:
        along = partial(GatheringLayer, kind, load, dropout=dropout)
        read = [partial(along, before=None, after=width)]
        read += [partial(along, before=width, after=width)] * (layers - 2)
        return Model(read, partial(GatheredMap, kind, load, width, None))
    layer = partial(GraphLayer, kind, load, dropout=dropout, sparse=sparse)
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
