"""A small vision Transformer (Dosovitskiy 2021): the patches of an image are its tokens.

Names below: n images, t patches of an image, d the width of the residual stream.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dfa_core import JobError, Model
from dfa_core.model import chain
from dfa_tasks.language.transformer import Attention, Residual, feed_forward
from dfa_tasks.vision.feedback_points import layers_between
from dfa_tasks.vision.patches import into_channels
from dfa_tasks.vision.sizes import check_sizes

_SPREAD = 0.3  # standard deviation of what the positions begin with


class Patches(nn.Module):
    """Images (n, channels, side, side) -> (n, t, d): each patch through one map, plus its place."""

    def __init__(self, channels: int, side: int, patch: int, width: int) -> None:
        """side, patch: of an image and of a patch, in pixels."""
        super().__init__()
        self._patch = patch
        self.map = nn.Linear(channels * patch**2, width)
        self.places = nn.Parameter(_SPREAD * torch.randn((side // patch) ** 2, width))

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedded patches."""
        patches = into_channels(images.permute(0, 2, 3, 1), self._patch).flatten(1, 2)
        out: Tensor = self.map(patches) + self.places
        return out


class MeanHead(nn.Module):
    """The head: (n, t, d) -> logits (n, classes), by norm, mean over the patches, linear."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm, self.map = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        out: Tensor = self.map(self.norm(x).mean(1))
        return out


def _attention(width: int, heads: int, patches: int) -> nn.Module:
    """Return attention to all patches, which begins as 0."""
    attention = Attention("standard", width, heads, patches, dropout=0.0, causal=False)
    _set_to_zero(attention.out)
    return attention


def _feed_forward(width: int, hidden: int) -> nn.Module:
    """Return a feed-forward sublayer, which begins as 0."""
    made = feed_forward(width, hidden)
    _set_to_zero(made[-1])  # type: ignore[index]
    return made


def _set_to_zero(last: nn.Module) -> None:
    for weight in last.parameters():
        nn.init.zeros_(weight)


def _added(inner: Callable[[], nn.Module], width: int) -> nn.Module:
    return Residual(inner, width, dropout=0.0, norm_first=True)


def vision_transformer(
    channels: int,
    side: int,
    classes: int,
    blocks: int,
    width: int,
    heads: int,
    hidden: int,
    patch: int,
    points: int,
) -> Model:
    """Return a Transformer of pre-norm encoder blocks, which begin as the identity.

    Take the error at the head's input, where it has the shape of the residual stream.

    channels, side: of an image.
    blocks: number of encoder blocks.
    hidden: width of the feed-forward sublayers.
    patch: side of a patch, in pixels.
    points: a feedback point follows every `points` blocks.

    Raises JobError if the patches do not cover the image, the heads do not divide the width, or
    `points` does not divide the number of blocks.
    """
    sizes = {"blocks": blocks, "width": width, "heads": heads, "hidden": hidden, "patch": patch}
    check_sizes(**sizes, points=points)
    if side % patch:
        raise JobError(f"options.patch: {patch} does not divide the {side} pixels of an image")
    if width % heads:
        raise JobError(f"options.heads: {heads} does not divide the width {width}")
    attend = partial(_added, partial(_attention, width, heads, (side // patch) ** 2), width)
    transform = partial(_added, partial(_feed_forward, width, hidden), width)
    block = partial(chain, attend, transform)
    embedding = partial(Patches, channels, side, patch, width)
    layers = layers_between(embedding, [block] * blocks, points)
    return Model(layers, partial(MeanHead, width, classes))
