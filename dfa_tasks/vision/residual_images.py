"""A residual convolutional network whose stream of images keeps one shape, for identity feedback.

An image network usually loses height and width as it gains channels, so that no error fits all of
its layers. Here that happens inside a block alone, as in arXiv 2501.17086: a block moves patches of
pixels into channels, convolves, and moves them back before it adds to the stream.

Names below: n images of h x w pixels with c channels. The stream is (n, h, w, c), channels last: so
convolutions on a CPU are fastest.
"""

from functools import partial

import torch
from torch import Tensor, nn

from dfa_core import Model
from dfa_tasks.vision.feedback_points import layers_between
from dfa_tasks.vision.patches import into_channels, out_of_channels
from dfa_tasks.vision.sizes import check_sizes

_COARSE = 2  # side of the patches that later blocks and the head move into channels


class Convolution(nn.Module):
    """A convolution that keeps height and width: (n, h, w, before) -> (n, h, w, after).

    Its kernel is kept as a matrix, (after, before * side²), because Muon trains matrices alone.
    """

    def __init__(self, before: int, after: int, side: int) -> None:
        """side: of the kernel, in pixels; odd."""
        super().__init__()
        drawn = nn.Conv2d(before, after, side)
        self._kernel, self._padding = drawn.weight.shape, side // 2
        self.weight, self.bias = nn.Parameter(drawn.weight.detach().flatten(1)), drawn.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved images."""
        kernel = self.weight.view(self._kernel)
        images = x.permute(0, 3, 1, 2)  # a view: in memory the channels stay last
        convolved = nn.functional.conv2d(images, kernel, self.bias, padding=self._padding)
        return convolved.permute(0, 2, 3, 1)


class Stem(nn.Module):
    """Images (n, channels, height, width) -> the stream, with half the height and width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.map = Convolution(4 * channels, width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the stream, (n, height/2, width/2, width)."""
        out: Tensor = self.map(into_channels(images.permute(0, 2, 3, 1), 2))
        return out


class ImageBlock(nn.Module):
    """x + up(W2 * relu(W1 * norm(down(x)))): it begins as the identity, since W2 begins as 0.

    down() moves patches of pixels into channels, up() moves them back. W1 is a convolution of 3x3,
    W2 one of 1x1.
    """

    def __init__(self, width: int, hidden: int, patch: int) -> None:
        """width: channels of the stream; hidden: of the block; patch: side of the patches."""
        super().__init__()
        inside, self._patch = width * patch**2, patch
        self.norm = nn.LayerNorm(inside)
        self.widen, self.back = Convolution(inside, hidden, 3), nn.Linear(hidden, inside)
        for weight in self.back.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after this block, with the shape of x."""
        coarse = self.norm(into_channels(x, self._patch))
        added = self.back(torch.relu(self.widen(coarse)))
        return x + out_of_channels(added, self._patch)


class PooledHead(nn.Module):
    """The head: (n, h, w, c) -> logits (n, classes), by norm, ReLU, mean over the image, linear."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width * _COARSE**2)
        self.map = nn.Linear(width * _COARSE**2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        coarse = torch.relu(self.norm(into_channels(x, _COARSE)))
        out: Tensor = self.map(coarse.mean((1, 2)))
        return out


def residual_images(
    channels: int, classes: int, blocks: int, width: int, hidden: int, points: int
) -> Model:
    """Return a stem, residual blocks and a head that pools.

    The first block sees the stream as it is, the others see it at half the height and width, with
    four times the channels. Take the error at the head's input, before it pools: there it has the
    shape of the stream.

    channels: of the images, whose height and width 4 must divide.
    blocks: number of residual blocks.
    width: channels of the stream.
    hidden: channels inside a block.
    points: a feedback point follows every `points` blocks.

    Raises JobError if `points` does not divide the number of blocks.
    """
    check_sizes(blocks=blocks, width=width, hidden=hidden, points=points)
    sides = [1] + [_COARSE] * (blocks - 1)
    each = [partial(ImageBlock, width, hidden, side) for side in sides]
    layers = layers_between(partial(Stem, channels, width), each, points)
    return Model(layers, partial(PooledHead, width, classes))
