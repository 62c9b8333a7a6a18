"""Recommenders as layers: FeaturesLinear, FM, DeepFM, DCN, AutoInt and AFN.

What a model adds directly to its output (the linear part, FM's pairs) learns by the global error,
which is its exact gradient. Every hidden layer learns by feedback (arXiv 2006.12878, appendix B).
With `head_layers` the last layers of the MLP belong to the head. The error is then taken at the
head's input, where it is a vector that depends on the whole sample. At the logit it is one number
per sample, and an embedding can learn only one number from it.

Names below: n samples, f fields, k embedding size.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from dfa_core import Activations, JobError, Model
from dfa_core.layer import LearnsBy
from dfa_core.model import ModuleFactory, chain


class Embedding(nn.Module):
    """Ids (n, f) -> embeddings (n, f, k)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("feedback",)

    def __init__(self, ids: int, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, size)
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings."""
        out: Tensor = self.table(x)
        return out


class LinearPart(nn.Module):
    """Ids (n, f) -> (n, 1): the sum of one weight per id (logistic regression)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("error",)

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, 1)
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the term that the head adds to the model's output."""
        out: Tensor = self.table(x).sum(dim=1)
        return out


class EmbeddingAndLinear(nn.Module):
    """Ids -> embeddings and the linear part."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("feedback", "error")

    def __init__(self, ids: int, size: int) -> None:
        super().__init__()
        self.linear, self.embedding = LinearPart(ids), Embedding(ids, size)

    def forward(self, x: Tensor) -> Activations:
        """Return (n, f, k) and (n, 1)."""
        return self.embedding(x), self.linear(x)


class Pairs(EmbeddingAndLinear):
    """Ids -> (n, 1): the linear part plus the products of all pairs (Rendle 2010, eq. 1)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("error",)

    def forward(self, x: Tensor) -> Activations:
        """Return the term that the head adds to the model's output."""
        embeddings: Tensor = self.embedding(x)
        out: Tensor = self.linear(x) + _products(embeddings)
        return out


class EmbeddingAndPairs(EmbeddingAndLinear):
    """Ids -> embeddings for later layers, and Pairs; they learn through Pairs only (Guo 2017)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("nothing", "error")

    def forward(self, x: Tensor) -> Activations:
        """Return (n, f, k) and (n, 1)."""
        embeddings: Tensor = self.embedding(x)
        return embeddings, self.linear(x) + _products(embeddings)


def _products(embeddings: Tensor) -> Tensor:
    """Sum the products of all pairs in linear time, (n, f, k) -> (n, 1) (Rendle 2010)."""
    square_of_sum = embeddings.sum(dim=1).square()
    sum_of_squares = embeddings.square().sum(dim=1)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1, keepdim=True)


class Dense(nn.Module):
    """Linear map, batch normalisation, ReLU and dropout; other tensors pass unchanged."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, h: Tensor, *others: Tensor) -> Activations:
        """Return (n, after) and the others."""
        return (self.layers(h.flatten(1)), *others)


class Cross(nn.Module):
    """x_l -> x_0 * (x_l · w) + b + x_l (Wang 2017, eq. 3); it passes x_0 on."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.map = nn.Linear(features, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, first: Tensor | None = None) -> Activations:
        """Return x_{l+1} and x_0, both (n, f·k)."""
        x = x.flatten(1)
        first = x if first is None else first
        return first * self.map(x) + self.bias + x, first


class Reordered(nn.Module):
    """Calls a module with the tensors in another order."""

    def __init__(self, module: ModuleFactory, order: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self._order = module(), order

    def forward(self, *inputs: Tensor) -> Activations:
        """Return the module's output."""
        out: Activations = self.module(*(inputs[index] for index in self._order))
        return out


class Attention(nn.Module):
    """Multi-head self-attention between fields, with a mapped residual (Song 2019, eq. 5 to 8)."""

    def __init__(self, size: int, width: int, heads: int, dropout: float, keep: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self._keep = heads, dropout, keep
        self.map = nn.Linear(size, 3 * width, bias=False)
        self.residual = nn.Linear(size, width, bias=False)

    def forward(self, x: Tensor, *others: Tensor) -> Activations:
        """(n, f, size) -> (n, f, width), then the others, then the input if `keep`."""
        split = self.map(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind()
        dropout = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out = torch.relu(mixed.transpose(1, 2).flatten(2) + self.residual(x))
        others = (*others, x) if self._keep else others
        return (out, *others)


class Logarithmic(nn.Module):
    """(n, f, k) -> (n, neurons·k): products of powers of the embeddings (Cheng 2020, eq. 3)."""

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.before, self.after = nn.BatchNorm1d(fields), nn.BatchNorm1d(neurons)
        self.map = nn.Linear(fields, neurons)

    def forward(self, x: Tensor, *others: Tensor) -> Activations:
        """Return the neurons and the others."""
        logarithms = self.before(x.abs().clamp(min=1e-4).log())
        powers = self.map(logarithms.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.after(powers.exp()).flatten(1)
        return (out, *others)


class Sum(nn.Module):
    """The head: the sum of a linear map of each hidden path and of the (n, 1) inputs."""

    def __init__(self, *features: int) -> None:
        """features: width of each path; the inputs after the paths are (n, 1) and are added."""
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, 1) for width in features)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits, (n, 1)."""
        mapped = [m(h.flatten(1)) for m, h in zip(self.maps, inputs, strict=False)]
        return torch.stack([*mapped, *inputs[len(mapped) :]]).sum(dim=0)


class AppendAdded(nn.Module):
    """Appends the last input, (n, 1), to the first one, so that the error has a column for it."""

    def forward(self, h: Tensor, *others: Tensor) -> Activations:
        """(n, features), paths, (n, 1) -> (n, features + 1), paths."""
        *paths, added = others
        return (torch.cat([h, added], dim=1), *paths)


class SplitAdded(nn.Module):
    """Undoes AppendAdded."""

    def forward(self, joined: Tensor, *paths: Tensor) -> Activations:
        """(n, features + 1), paths -> (n, features), paths, (n, 1)."""
        return (joined[:, :-1], *paths, joined[:, -1:])


class Bias(nn.Module):
    """The head of models without a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, logit: Tensor) -> Tensor:
        """Return (n, 1)."""
        return logit + self.bias


def features_linear(ids: int) -> Model:
    """Return logistic regression."""
    return Model((partial(LinearPart, ids),), Bias)


def fm(ids: int, size: int = 16) -> Model:
    """Return a factorisation machine (Rendle 2010)."""
    return Model((partial(Pairs, ids, size),), Bias)


def deepfm(
    ids: int,
    fields: int,
    size: int = 16,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return DeepFM (Guo 2017): FM and an MLP on the same embeddings."""
    layers: list[ModuleFactory] = [partial(EmbeddingAndPairs, ids, size)]
    layers += _dense(fields * size, widths, dropout)
    return _model(layers, partial(Sum, widths[-1]), head_layers, len(widths))


def dcn(
    ids: int,
    fields: int,
    size: int = 16,
    crosses: int = 3,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return Deep & Cross (Wang 2017): cross layers, then an MLP; both read the embeddings."""
    width = fields * size
    layers: list[ModuleFactory] = [partial(Embedding, ids, size)]
    layers += [partial(Cross, width)] * crosses
    layers += _dense(width, widths, dropout, order=(1, 0))
    head = partial(Sum, widths[-1], width)
    return _model(layers, head, head_layers, len(widths), wide=False)


def autoint(
    ids: int,
    fields: int,
    size: int = 16,
    attentions: int = 3,
    attention_width: int = 32,
    heads: int = 2,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return AutoInt+ (Song 2019): attention between fields, an MLP, and the linear part."""
    layers: list[ModuleFactory] = [partial(EmbeddingAndLinear, ids, size)]
    for index, (a, b) in enumerate(pairwise([size] + [attention_width] * attentions)):
        layers.append(partial(Attention, a, b, heads, dropout, keep=index == 0))
    layers += _dense(fields * size, widths, dropout, order=(2, 0, 1))
    head = partial(Sum, widths[-1], fields * attention_width)
    return _model(layers, head, head_layers, len(widths))


def afn(
    ids: int,
    fields: int,
    size: int = 16,
    neurons: int = 64,
    widths: Sequence[int] = (64, 64),
    dropout: float = 0.2,
    head_layers: int = 0,
) -> Model:
    """Return AFN (Cheng 2020): logarithmic neurons, an MLP, and the linear part."""
    layers: list[ModuleFactory] = [partial(EmbeddingAndLinear, ids, size)]
    layers.append(partial(Logarithmic, fields, neurons))
    layers += _dense(neurons * size, widths, dropout)
    return _model(layers, partial(Sum, widths[-1]), head_layers, len(widths))


def _dense(
    features: int, widths: Sequence[int], dropout: float, order: tuple[int, ...] = ()
) -> list[ModuleFactory]:
    """Return the MLP's layers; order: of the inputs of its first layer."""
    layers: list[ModuleFactory] = [
        partial(Dense, a, b, dropout) for a, b in pairwise((features, *widths))
    ]
    if order:
        layers[0] = partial(Reordered, layers[0], order)
    return layers


def _model(
    layers: Sequence[ModuleFactory],
    head: ModuleFactory,
    head_layers: int,
    depth: int,
    wide: bool = True,
) -> Model:
    """Return a model of these layers, where the last `head_layers` of them belong to the head.

    depth: number of the MLP's layers, which are the last ones.
    wide: whether the head's last input is a term, (n, 1), that it adds to the output.

    Raises JobError when no layer of the MLP is left before the head.
    """
    if not 0 <= head_layers < depth:
        raise JobError(f"options.head_layers: {head_layers} is not between 0 and {depth - 1}")
    if not head_layers:
        return Model(layers, head)
    cut = len(layers) - head_layers
    before, inside = [*layers[:cut]], [*layers[cut:], head]
    if wide:
        before[-1] = partial(chain, before[-1], AppendAdded)
        inside = [SplitAdded, *inside]
    return Model(before, partial(chain, *inside))
