"""Zero weights hide what is before them: a check of outputs replaces them for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_SPREAD = 0.1  # of the numbers in their places


@contextmanager
def without_zero_weights(module: nn.Module) -> Iterator[None]:
    """Let all weights that are zeros be random numbers, always the same ones, inside the block.

    Many networks start with a head of zeros, so that their first outputs are all the same.
    """
    zeros = [p for p in module.parameters() if p.is_floating_point() and not bool(p.any())]
    draws = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for weight in zeros:
                weight.copy_(torch.randn(weight.shape, generator=draws) * _SPREAD)
        yield
    finally:
        with torch.no_grad():
            for weight in zeros:
                weight.zero_()


def is_close(found: Tensor, expected: Tensor, rounding: float) -> bool:
    """Return whether two outputs are equal but for rounding, relative to the largest number."""
    if found.shape != expected.shape:
        return False
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=rounding * largest, equal_nan=True)
