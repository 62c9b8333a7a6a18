"""Modules of the recommenders, and what each of their outputs learns by.

Names below: n samples, f fields, k embedding size.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dfa_core import Activations
from dfa_core.layer import LearnsBy
from dfa_core.model import Chain, ModuleFactory


class Embedding(nn.Module):
    """Ids (n, f) -> embeddings (n, f, k)."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("feedback",)

    def __init__(self, ids: int, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, size)
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, x: Tensor) -> Activations:
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


class StreamStart(Embedding):
    """Ids (n, f) -> embeddings (n, f·k) twice: where the cross layers' stream starts, and x_0."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("identity", "feedback")

    def forward(self, x: Tensor) -> Activations:
        """Return x_0 for the stream, which learns as it does, and x_0 for the MLP."""
        first = self.table(x).flatten(1)
        return first, first


class StreamCross(Cross):
    """A cross layer that learns by the error at the stream's end."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("identity",)


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


class LogarithmicEmbedding(EmbeddingAndLinear):
    """Ids -> logarithmic neurons of the embeddings, and the linear part."""

    def __init__(self, ids: int, size: int, fields: int, neurons: int) -> None:
        super().__init__(ids, size)
        self.logarithmic = Logarithmic(fields, neurons)

    def forward(self, x: Tensor) -> Activations:
        """Return (n, neurons·k) and (n, 1)."""
        out: Activations = self.logarithmic(self.embedding(x), self.linear(x))
        return out


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
    """Appends the last input to the first one, so that the error has columns for it."""

    def forward(self, h: Tensor, *others: Tensor) -> Activations:
        """(n, features), paths, (n, added) -> (n, features + added), paths."""
        *paths, added = others
        return (torch.cat([h, added], dim=1), *paths)


class SplitAdded(nn.Module):
    """Undoes AppendAdded."""

    def __init__(self, added: int) -> None:
        """added: width of what was appended."""
        super().__init__()
        self._added = added

    def forward(self, joined: Tensor, *paths: Tensor) -> Activations:
        """(n, features + added), paths -> (n, features), paths, (n, added)."""
        return (joined[:, : -self._added], *paths, joined[:, -self._added :])


class HeadInput(Chain):
    """The layer before the head: its output is the head's input, so the error there is exact."""

    learns_by: ClassVar[tuple[LearnsBy, ...]] = ("identity",)

    @classmethod
    def of(cls, *factories: ModuleFactory) -> "HeadInput":
        """Build it from factories of its modules, in order."""
        return cls(*(make() for make in factories))


class Bias(nn.Module):
    """The head of models without a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, logit: Tensor) -> Tensor:
        """Return (n, 1)."""
        return logit + self.bias
