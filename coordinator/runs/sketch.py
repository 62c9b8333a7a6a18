"""A few numbers that tell one tensor from another, whatever machine computed it."""

import hashlib
from collections.abc import Sequence
from math import isclose
from typing import TypeAlias

import torch
from torch import Tensor

Sketch: TypeAlias = Sequence[str | float]

_MOST = 1 << 20  # numbers of a tensor that are looked at
_SAME = 1e-3  # of the root mean square; another machine's rounding changes far less


def sketch(tensor: Tensor) -> Sketch:
    """Return dtype and shape; of whole numbers a SHA-256, of others mean, RMS and a projection.

    Floating-point data that another machine or another number of threads has computed differs in
    its last bits, so that a hash would call it other data.
    """
    form = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    flat = tensor.detach().cpu().reshape(-1)
    flat = flat[:: 1 + len(flat) // _MOST].contiguous()
    if not len(flat):
        return [form]
    if not (flat.is_floating_point() or flat.is_complex()):
        return [form, hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()]
    values = (torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat).double()
    values = torch.nan_to_num(values, 0.0, 1e30, -1e30)
    projection = values @ torch.arange(len(values), dtype=torch.double).cos() / len(values) ** 0.5
    numbers = values.mean(), values.square().mean().sqrt(), projection
    return [form, *(float(f"{float(number):.9g}") for number in numbers)]


def alike(one: Sketch, other: Sketch) -> bool:
    """Return whether two sketches can be of the same data."""
    if len(one) != 4 or len(other) != 4 or one[0] != other[0]:
        return list(one) == list(other)
    numbers = list(zip(map(float, one[1:]), map(float, other[1:]), strict=True))
    within = _SAME * max(numbers[1])
    return all(isclose(a, b, rel_tol=0.0, abs_tol=within) for a, b in numbers)
