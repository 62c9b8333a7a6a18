"""Patches of pixels that become channels, and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dfa_tasks.vision.patches import into_channels, out_of_channels


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_back_again_is_the_identity(side: int, height: int, width: int, channels: int) -> None:
    x = torch.randn(2, height * side, width * side, channels)
    moved = into_channels(x, side)
    assert moved.shape == (2, height, width, side * side * channels)
    assert torch.equal(out_of_channels(moved, side), x)


def test_a_patch_is_one_pixel() -> None:
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    assert torch.equal(into_channels(x, 2)[1, 0, 2], x[1, 0:2, 4:6].flatten())
