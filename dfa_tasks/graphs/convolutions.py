"""Graph convolutions in two steps: linear maps of the nodes, and a sum along the edges.

In GCN, Chebyshev and spline convolutions the sum is linear, so the two steps may change places:
out = sum over k of S_k (x W_k) + b = sum over k of (S_k x) W_k + b. Maps first is cheaper where the
input is wide. The sums are those of torch_geometric, except for spline convolutions, which need a
compiled package there.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfa_tasks.graphs.planetoid import Graph

ConvolutionKind = Literal["gcn", "cheb", "gat", "spline"]
MAPS: Mapping[ConvolutionKind, int] = {
    "gcn": 1,
    "cheb": 2,
    "gat": 1,
    "spline": 3,
}  # W_k of a convolution


class WordMap(nn.Module):
    """The first layer's linear map, of the words of each node's paper, with dropout of words.

    A paper has about one word in a hundred. A dense map and dropout of all words took most of the
    time of a step.
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
        """Map the numbers of all nodes, in order: (n,) -> (n, after)."""
        values, weight = self.dropout(self.values), self.bag.weight
        return nn.functional.embedding_bag(
            self.words, weight, self.starts, mode="sum", per_sample_weights=values
        )


class _Spline(nn.Module):
    degree: Tensor
    u: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        degree = torch.bincount(graph.edges[1], minlength=graph.nodes).float()
        self.register_buffer("degree", degree.clamp(min=1).unsqueeze(1), persistent=False)
        u = (degree / degree.max())[graph.edges[1]].unsqueeze(1)
        self.register_buffer("u", u, persistent=False)

    def mean(self, messages: Tensor, edges: Tensor) -> Tensor:
        """Return the mean over each node's incoming edges: (m, w) -> (n, w)."""
        summed = messages.new_zeros(len(self.degree), messages.shape[1])
        return summed.index_add(0, edges[1], messages) / self.degree


class SplineMixing(_Spline):
    """Degree-1 B-spline convolution with two control points (Fey 2018), one pseudo-coordinate.

    out_i = x_i W_2 + mean over edges j -> i of (1 - u) x_j W_0 + u x_j W_1 + b. The edge's
    coordinate u in [0, 1] is the degree of i divided by the largest degree.
    """

    def __init__(self, graph: Graph, after: int) -> None:
        super().__init__(graph)
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, mapped: Tensor, edges: Tensor) -> Tensor:
        """Combine three maps of the nodes: (n, 3·after) -> (n, after)."""
        near, far, own = mapped.chunk(3, dim=1)
        source = edges[0]
        messages = (1 - self.u) * near[source] + self.u * far[source]
        return own + self.mean(messages, edges) + self.bias


class SplineGathering(_Spline):
    """The inputs of a spline convolution's maps, summed along the edges before them."""

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """(n, w) -> (n, 3·w)."""
        of_edges = h[edges[0]]
        near, far = self.mean((1 - self.u) * of_edges, edges), self.mean(self.u * of_edges, edges)
        return torch.cat([near, far, h], dim=1)


class Chunk(nn.Module):
    """Takes one of the equal chunks of a map's output."""

    def __init__(self, index: int, chunks: int) -> None:
        super().__init__()
        self._index, self._chunks = index, chunks

    def forward(self, mapped: Tensor) -> Tensor:
        """(n, chunks·w) -> (n, w)."""
        return mapped.chunk(self._chunks, dim=1)[self._index]


class InputPosition(nn.Module):
    """Puts its input into one of several equal chunks, and zeros into the others."""

    def __init__(self, index: int, chunks: int) -> None:
        super().__init__()
        self._before, self._after = index, chunks - 1 - index

    def forward(self, h: Tensor) -> Tensor:
        """(n, w) -> (n, chunks·w)."""
        width = h.shape[1]
        return nn.functional.pad(h, (self._before * width, self._after * width))


def mixing(kind: ConvolutionKind, after: int, graph: Graph, dropout: float) -> nn.Module:
    """Return the sum of a convolution after its maps: (n, maps·after), (2, m) -> (n, after)."""
    if kind == "spline":
        return SplineMixing(graph, after)
    from torch_geometric.nn import ChebConv, GATConv, GCNConv  # noqa: PLC0415  # takes seconds

    made: Any
    if kind == "gcn":
        made = GCNConv(after, after, cached=True)
        made.lin = nn.Identity()
    elif kind == "cheb":
        made = ChebConv(2 * after, after, K=2)
        made.lins = nn.ModuleList([Chunk(0, 2), Chunk(1, 2)])
    else:
        heads = 8 if after % 8 == 0 else 1
        made = GATConv(after, after // heads, heads=heads, dropout=dropout)
        made.lin = nn.Identity()
    found: nn.Module = made
    return found


def adjacency(graph: Graph) -> Tensor:
    """Return the matrix of a GCN's sum as a sparse one in rows (CSR), (n, n).

    It is D^-1/2 (A + 1) D^-1/2 (Kipf and Welling 2017, equation 2); row = target, column = source.
    """
    from torch_geometric.nn.conv.gcn_conv import gcn_norm  # noqa: PLC0415  # takes seconds

    edges, weights = gcn_norm(graph.edges, num_nodes=graph.nodes)
    size = (graph.nodes, graph.nodes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse")  # CSR is in beta; its checks are opted into
        matrix = torch.sparse_coo_tensor(edges.flip(0), weights, size, check_invariants=True)
        return matrix.coalesce().to_sparse_csr()


class SparseMixing(nn.Module):
    """The sum of a GCN after its map, by the product with its matrix."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, mapped: Tensor, matrix: Tensor) -> Tensor:
        """(n, after), sparse (n, n) -> (n, after)."""
        return matrix @ mapped + self.bias


def gathering(kind: ConvolutionKind, before: int, graph: Graph) -> nn.Module:
    """Return the sum of a convolution before its maps: (n, before), (2, m) -> (n, maps·before)."""
    if kind == "spline":
        return SplineGathering(graph)
    from torch_geometric.nn import ChebConv, GCNConv  # noqa: PLC0415  # takes seconds

    made: Any
    if kind == "gcn":
        made = GCNConv(before, before, cached=True, bias=False)
        made.lin = nn.Identity()
    else:
        made = ChebConv(before, 2 * before, K=2, bias=False)
        made.lins = nn.ModuleList([InputPosition(0, 2), InputPosition(1, 2)])
    found: nn.Module = made
    return found
