"""Recommenders as layers: FeaturesLinear, FM, DeepFM, DCN, AutoInt and AFN.

What a model adds straight to its output (the linear part, FM's pairs) learns by the global error
itself, which is its exact gradient; every hidden layer learns by feedback (arXiv 2006.12878,
appendix B). With `head_layers` the last layers of the MLP belong to the head: the error, taken at
the head's input, then is a vector that depends on the whole sample, where at the logit it is one
number, and what an embedding can learn from it is one number too.

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
    """Ids (n, f) -> (n, 1): a weight for each id, summed up (logistic regression)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("error",)

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, 1)
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the model's output."""
        out: Tensor = self.table(x).sum(dim=1)
        return out


class EmbeddingAndLinear(nn.Module):
    """Ids -> embeddings, and the linear part."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("feedback", "error")

    def __init__(self, ids: int, size: int) -> None:
        super().__init__()
        self.linear, self.embedding = LinearPart(ids), Embedding(ids, size)

    def forward(self, x: Tensor) -> Activations:
        """Return (n, f, k) and (n, 1)."""
        return self.embedding(x), self.linear(x)


class Pairs(EmbeddingAndLinear):
    """Ids -> (n, 1): linear part and all products of two embeddings (Rendle 2010, eq. 1)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("error",)

    def forward(self, x: Tensor) -> Activations:
        """Return what is added to the model's output."""
        embeddings: Tensor = self.embedding(x)
        out: Tensor = self.linear(x) + _products(embeddings)
        return out


class EmbeddingAndPairs(EmbeddingAndLinear):
    """Ids -> embeddings for later layers, and Pairs, through which alone they learn (Guo 2017)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("nothing", "error")

    def forward(self, x: Tensor) -> Activations:
        """Return (n, f, k) and (n, 1)."""
        embeddings: Tensor = self.embedding(x)
        return embeddings, self.linear(x) + _products(embeddings)


def _products(embeddings: Tensor) -> Tensor:
    """(n, f, k) -> (n, 1): the sum over all pairs of fields, in linear time (Rendle 2010)."""
    square_of_sum = embeddings.sum(dim=1).square()
    sum_of_squares = embeddings.square().sum(dim=1)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1, keepdim=True)


class Dense(nn.Module):
    """Linear map, batch normalisation, ReLU, dropout; other tensors go along."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, h: Tensor, *others: Tensor) -> Activations:
        """Return (n, after), and the others."""
        return (self.layers(h.flatten(1)), *others)


class Cross(nn.Module):
    """x_l -> x_0 * (x_l · w) + b + x_l (Wang 2017, eq. 3); x_0 goes along."""

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
        """(n, f, size) -> (n, f, width); others go along, and the input where it is kept."""
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
        """Return the neurons, and the others."""
        logarithms = self.before(x.abs().clamp(min=1e-4).log())
        powers = self.map(logarithms.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.after(powers.exp()).flatten(1)
        return (out, *others)


class Sum(nn.Module):
    """The head: a linear map of each hidden path, and what is added as it is."""

    def __init__(self, *features: int) -> None:
        """features: of each path; inputs behind them are (n, 1) and added."""
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, 1) for width in features)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits, (n, 1)."""
        mapped = [m(h.flatten(1)) for m, h in zip(self.maps, inputs, strict=False)]
        return torch.stack([*mapped, *inputs[len(mapped) :]]).sum(dim=0)


class Joined(nn.Module):
    """Puts what is added to the output behind the first tensor: the error then holds its part."""

    def forward(self, h: Tensor, *others: Tensor) -> Activations:
        """(n, features), paths, (n, 1) -> (n, features + 1), paths."""
        *paths, added = others
        return (torch.cat([h, added], dim=1), *paths)


class Parted(nn.Module):
    """The other way round."""

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
    """Return Deep & Cross (Wang 2017): cross layers, then the MLP, both of the embeddings."""
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
    """Return the MLP's layers; order: in which its first one takes what comes to it."""
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
    """Return the whole; depth: of the MLP, of whose last layers the head has `head_layers`.

    wide: whether what is added to the output, (n, 1), is the last tensor that comes to the head.

    Raises JobError when that leaves no layer of the MLP before the head.
    """
    if not 0 <= head_layers < depth:
        raise JobError(f"options.head_layers: {head_layers} is not between 0 and {depth - 1}")
    if not head_layers:
        return Model(layers, head)
    cut = len(layers) - head_layers
    before, inside = [*layers[:cut]], [*layers[cut:], head]
    if wide:
        before[-1] = partial(chain, before[-1], Joined)
        inside = [Parted, *inside]
    return Model(before, partial(chain, *inside))
