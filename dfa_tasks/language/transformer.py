"""Transformers that predict the next token (Vaswani 2017), as layers; attention or a synthesizer.

The option `points` says where the feedback points are:

| points | after | source |
|---|---|---|
| block | each encoder block (macro) | arXiv 2006.12878, section 3.4 |
| sublayer | attention, and the block: both as wide as the residual stream | |
| micro | attention, the feed-forward's hidden units, the block | arXiv 2006.12878, section 3.4 |
| a number n | every n encoder blocks, which use exact gradients inside | |

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
    """Tokens (n, t) -> (n, t, d): an embedding plus sines of the position (Vaswani 2017, 3.5)."""

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
    """Each token attends to itself and the tokens before it: (n, t, d) -> (n, t, d).

    kind: where the attention weights come from: queries and keys (standard); the attending token
        alone (dense); a matrix of positions that is trained (random) or not (fixed); see Tay 2020.
    causal: if false, each token attends to all tokens.
    """

    scores: Tensor

    def __init__(
        self,
        kind: AttentionKind,
        width: int,
        heads: int,
        length: int,
        dropout: float,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self._kind, self._heads, self._dropout, self._causal = kind, heads, dropout, causal
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
        *attending, values = split.permute(2, 0, 3, 1, 4).unbind()  # (n, h, t, d/h) each
        if self._kind == "standard":
            query, key = attending
            mixed = nn.functional.scaled_dot_product_attention(
                query, key, values, dropout_p=dropout, is_causal=self._causal
            )
        else:
            scores = self._scores(x, tokens)
            if self._causal:
                later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(later, float("-inf"))
            weights = scores.softmax(-1)
            mixed = nn.functional.dropout(weights, dropout, self.training) @ values
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _scores(self, x: Tensor, tokens: int) -> Tensor:
        if self._kind != "dense":
            return self.scores[:, :tokens, :tokens]
        scores: Tensor = self.synthesize(x).unflatten(-1, (self._heads, -1))
        return scores[..., :tokens].transpose(1, 2)


class Residual(nn.Module):
    """x -> x + f(norm(x)), or norm(x + f(x)) as in the first Transformers."""

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
    """The first half of a feed-forward sublayer; it passes the residual stream on."""

    def __init__(self, width: int, hidden: int, norm_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.map = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Activations:
        """(n, t, d) -> (n, t, hidden), (n, t, d)."""
        return torch.relu(self.map(self.norm(x))), x


class Output(nn.Module):
    """The second half of a feed-forward sublayer."""

    def __init__(self, width: int, hidden: int, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.map, self.dropout = nn.Linear(hidden, width), nn.Dropout(dropout)
        self.norm = nn.Identity() if norm_first else nn.LayerNorm(width)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(n, t, hidden), (n, t, d) -> (n, t, d)."""
        out: Tensor = self.norm(x + self.dropout(self.map(hidden)))
        return out


class Vocabulary(nn.Module):
    """The head: (n, t, d) -> logits (n, t, tokens)."""

    def __init__(self, width: int, tokens: int, norm_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.map = nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        out: Tensor = self.map(self.norm(x))
        return out


def feed_forward(width: int, hidden: int) -> nn.Module:
    """Return Hidden and Output as one module, without norm and residual."""
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

    tokens: size of the vocabulary.
    length: most tokens of a chunk.
    blocks: number of encoder blocks.
    hidden: width of the feed-forward sublayers.
    points: see the module's table.
    embedding_point: adds a feedback point after the embedding, which otherwise belongs to the first
        layer.
    spread: standard deviation of the embedding's initial values.

    Raises JobError for an unknown kind of attention or points, and for a number of points that does
    not divide the blocks.
    """
    if attention not in get_args(AttentionKind):
        hint = nearest(str(attention), get_args(AttentionKind))
        raise JobError(f"options.attention: unknown '{attention}'; {hint}")
    inner = partial(Attention, attention, width, heads, length, dropout)
    attend = partial(Residual, inner, width, dropout, norm_first)
    transform = partial(Residual, partial(feed_forward, width, hidden), width, dropout, norm_first)
    halves: list[ModuleFactory] = [
        partial(Hidden, width, hidden, norm_first),
        partial(Output, width, hidden, dropout, norm_first),
    ]
    of_block: dict[str, list[ModuleFactory]] = {
        "block": [partial(chain, attend, transform)],
        "sublayer": [attend, transform],
        "micro": [attend, *halves],
    }
    layers: list[ModuleFactory]
    if isinstance(points, int):
        if points < 1 or blocks % points:
            raise JobError(f"options.points: {points} does not divide the {blocks} blocks")
        layers = [partial(chain, *[attend, transform] * points)] * (blocks // points)
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
