"""Finds a loss or a metric that compares each output with every target.

Outputs of (n, 1) and targets of (n,) are broadcast to (n, n) without an error, and the mean over
all pairs of an output and a target is a number like any other.
"""

import warnings
from collections.abc import Callable, Iterator
from math import isclose, prod
from typing import Any

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor], Any]

_SAMPLES = 8


def compares_all_pairs(measure: Measure, output: Tensor, target: Tensor) -> bool:
    """Return whether a measure is the mean over all pairs of an output and a target.

    A measure of one sample is without doubt, so the means over single samples, and over all pairs,
    are what it is compared with.
    """
    if len(output) != len(target) or not _are_broadcast(output, target):
        return False
    output, target = output[:_SAMPLES], target[:_SAMPLES]
    variants = _variants(output, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return any(_is_mean_of_pairs(measure, outputs, target) for outputs in variants)


def _are_broadcast(output: Tensor, target: Tensor) -> bool:
    try:
        shape = torch.broadcast_shapes(output.shape, target.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return bool(prod(shape) > max(output.numel(), target.numel()))


def _variants(output: Tensor, target: Tensor) -> Iterator[Tensor]:
    """Yield outputs: the model's own, and others, which go with the targets or against them.

    Those of an untrained model may be too much alike to tell pairs apart.
    """
    yield output
    samples = len(output)
    ranks = target.reshape(samples, -1).double().mean(1).argsort().argsort()
    for spread in (torch.linspace(-2, 3, samples), torch.linspace(3, -2, samples)):
        column = spread[ranks].to(output.dtype).view(-1, *[1] * (output.dim() - 1))
        yield column.expand_as(output)


def _is_mean_of_pairs(measure: Measure, output: Tensor, target: Tensor) -> bool:
    samples = range(len(output))
    try:
        whole = float(measure(output, target))
        pairs = [
            [float(measure(output[i : i + 1], target[j : j + 1])) for j in samples] for i in samples
        ]
    except Exception:  # noqa: BLE001  # it does not take these outputs, or one sample alone
        return False
    own = sum(pairs[i][i] for i in samples) / len(pairs)
    every = sum(map(sum, pairs)) / len(pairs) ** 2
    return isclose(whole, every, rel_tol=1e-4) and not isclose(whole, own, rel_tol=1e-3)
