"""Transformers that foretell the next token (Vaswani 2017), as layers; attention or a synthesizer.

Where the feedback points are, `points`:

| points | after | source |
|---|---|---|
| block | each encoder block (macro) | arXiv 2006.12878, section 3.4 |
| sublayer | attention, and the block: both as wide as the residual stream | |
| micro | attention, the feed-forward's hidden, and the block | arXiv 2006.12878, section 3.4 |
| a number | every so many encoder blocks, which learn exactly within | |

Names below: n chunks, t tokens of a chunk, d the width, h heads. A sample is a token.
"""

from collections.abc import Callable
from functools import partial
from math import log
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dfa_core import Activations, JobError, Model
from dfa_core.model import ModuleFactory, chain
from dfa_core.names import nearest

Points = Literal["block", "sublayer", "micro"] | int
AttentionKind = Literal["standard", "fixed", "dense", "random"]


class Embedding(nn.Module):
    """Tokens (n, t) -> (n, t, d): an embedding, and sines of the position (Vaswani 2017, 3.5)."""

    positions: Tensor

    def __init__(self, tokens: int, length: int, width: int, dropout: float, spread: float) -> None:
        super().__init__()
        self.table, self.dropout = nn.Embedding(tokens, width), nn.Dropout(dropout)
        nn.init.normal_(self.table.weight, std=spread)
        place = torch.arange(length).unsqueeze(1)
        angles = place * torch.exp(torch.arange(0, width, 2) * (-log(10_000.0) / width))
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
        self.register_buffer("positions", spread * waves, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embedded tokens."""
        out: Tensor = self.dropout(self.table(tokens) + self.positions[: tokens.shape[1]])
        return out


class Attention(nn.Module):
    """Each token looks at those before it: (n, t, d) -> (n, t, d).

    kind: how much it looks at each, by queries and keys (standard); by what the token alone says
    (dense); by a matrix of positions that learns (random) or that stays (fixed): Tay 2020.
    """

    scores: Tensor

    def __init__(
        self, kind: AttentionKind, width: int, heads: int, length: int, dropout: float
    ) -> None:
        super().__init__()
        self._kind, self._heads, self._dropout = kind, heads, dropout
        self.values = nn.Linear(width, (3 if kind == "standard" else 1) * width)
        self.out = nn.Linear(width, width)
        if kind == "dense":
            self.synthesize = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, heads * length)
            )
        elif kind in ("random", "fixed"):
            scores = torch.randn(heads, length, length)
            self.scores = nn.Parameter(scores, requires_grad=kind == "random")

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed values."""
        tokens, dropout = x.shape[1], self._dropout if self.training else 0.0
        split = self.values(x).unflatten(-1, (-1, self._heads, x.shape[2] // self._heads))
        *looks, values = split.permute(2, 0, 3, 1, 4).unbind()  # (n, h, t, d/h) each
        if self._kind == "standard":
            query, key = looks
            mixed = nn.functional.scaled_dot_product_attention(
                query, key, values, dropout_p=dropout, is_causal=True
            )
        else:
            later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
            weights = self._scores(x, tokens).masked_fill(later, float("-inf")).softmax(-1)
            mixed = nn.functional.dropout(weights, dropout, self.training) @ values
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _scores(self, x: Tensor, tokens: int) -> Tensor:
        if self._kind != "dense":
            return self.scores[:, :tokens, :tokens]
        scores: Tensor = self.synthesize(x).unflatten(-1, (self._heads, -1))
        return scores[..., :tokens].transpose(1, 2)


class Residual(nn.Module):
    """x -> x + f(norm(x)), or norm(x + f(x)) as the first Transformers had it."""

    def __init__(
        self, inner: Callable[[], nn.Module], width: int, dropout: float, norm_first: bool
    ) -> None:
        super().__init__()
        self.inner, self.norm, self.dropout = inner(), nn.LayerNorm(width), nn.Dropout(dropout)
        self._norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        if self._norm_first:
            out: Tensor = x + self.dropout(self.inner(self.norm(x)))
        else:
            out = self.norm(x + self.dropout(self.inner(x)))
        return out


class Hidden(nn.Module):
    """The first half of a feed-forward sublayer; the residual stream goes along."""

    def __init__(self, width: int, hidden: int, norm_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.map = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Activations:
        """(n, t, d) -> (n, t, hidden), (n, t, d)."""
        return torch.relu(self.map(self.norm(x))), x


class Output(nn.Module):
    """The second half."""

    def __init__(self, width: int, hidden: int, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.map, self.dropout = nn.Linear(hidden, width), nn.Dropout(dropout)
        self.norm = nn.Identity() if norm_first else nn.LayerNorm(width)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(n, t, hidden), (n, t, d) -> (n, t, d)."""
        out: Tensor = self.norm(x + self.dropout(self.map(hidden)))
        return out


class Vocabulary(nn.Module):
    """The head: (n, t, d) -> (n, t, tokens), unnormalised."""

    def __init__(self, width: int, tokens: int, norm_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.map = nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each token."""
        out: Tensor = self.map(self.norm(x))
        return out


def feed_forward(width: int, hidden: int) -> nn.Module:
    """Return what Hidden and Output make together, without norm and residual."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def transformer(
    tokens: int,
    length: int = 128,
    blocks: int = 4,
    width: int = 128,
    heads: int = 4,
    hidden: int = 512,
    dropout: float = 0.1,
    points: Points = "block",
    attention: AttentionKind = "standard",
    norm_first: bool = True,
    embedding_point: bool = False,
    spread: float = 0.3,
) -> Model:
    """Return a causal Transformer.

    tokens: of the vocabulary; length: the most tokens of a chunk; blocks: encoder blocks; hidden:
    of the feed-forward sublayers; embedding_point: there is a feedback point behind the embedding
    too, which else learns exactly within the first layer; spread: of the embedding's first values.

    Raises JobError for unknown attention or points, also a number that does not divide the blocks.
    """
    if attention not in get_args(AttentionKind):
        hint = nearest(str(attention), get_args(AttentionKind))
        raise JobError(f"options.attention: unknown '{attention}'; {hint}")
    inner = partial(Attention, attention, width, heads, length, dropout)
    looks = partial(Residual, inner, width, dropout, norm_first)
    thinks = partial(Residual, partial(feed_forward, width, hidden), width, dropout, norm_first)
    split: list[ModuleFactory] = [
        partial(Hidden, width, hidden, norm_first),
        partial(Output, width, hidden, dropout, norm_first),
    ]
    of_block: dict[str, list[ModuleFactory]] = {
        "block": [partial(chain, looks, thinks)],
        "sublayer": [looks, thinks],
        "micro": [looks, *split],
    }
    layers: list[ModuleFactory]
    if isinstance(points, int):
        if points < 1 or blocks % points:
            raise JobError(f"options.points: {points} does not divide the {blocks} blocks")
        layers = [partial(chain, *[looks, thinks] * points)] * (blocks // points)
    elif points in of_block:
        layers = of_block[points] * blocks
    else:
        hint = nearest(str(points), of_block)
        raise JobError(f"options.points: unknown '{points}'; {hint}, or a number of blocks")
    embedding = partial(Embedding, tokens, length, width, dropout, spread)
    layers = [embedding, *layers]
    if not embedding_point:
        layers[:2] = [partial(chain, *layers[:2])]
    return Model(layers, partial(Vocabulary, width, tokens, norm_first))
