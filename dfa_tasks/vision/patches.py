"""Moves square patches of pixels into channels, and back.

n images of h x w pixels and c channels are (n, h, w, c) here.
"""

from torch import Tensor


def into_channels(x: Tensor, side: int) -> Tensor:
    """Make each patch of side x side pixels one pixel: (n, h, w, c) -> (n, h/side, w/side, side²c).

    side: divides h and w.
    """
    n, height, width, channels = x.shape
    patches = x.reshape(n, height // side, side, width // side, side, channels).transpose(2, 3)
    return patches.reshape(n, height // side, width // side, side * side * channels)


def out_of_channels(x: Tensor, side: int) -> Tensor:
    """Make each pixel a patch of side x side pixels: the inverse of into_channels()."""
    n, height, width, channels = x.shape
    patches = x.reshape(n, height, width, side, side, channels // (side * side)).transpose(2, 3)
    return patches.reshape(n, height * side, width * side, channels // (side * side))
