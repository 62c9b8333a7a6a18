"""Which numbers layers compute in, and which they pass on; weights are fp32.

A layer that computes in bf16 passes bf16 on where its last operation gave that, as autocast does;
head, loss and error are fp32.

How the error travels is error_format.py's.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16"]


def computing_in(precision: Precision, like: Tensor) -> AbstractContextManager[object]:
    """Let torch compute what allows it in bf16, on the device of `like` (autocast)."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(like.device.type, dtype=torch.bfloat16, cache_enabled=False)


class _Rounded(torch.autograd.Function):
    """fp32 to the nearest bf16, in fp32; a gradient passes as if nothing had been done."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


def passed_on(x: Tensor, activations: Precision) -> Tensor:
    """Return an output of a layer as the next one gets it, wherever that lives.

    With `bf16` it is rounded behind every layer, and not between blocks alone: bits must not depend
    on where the model is cut.
    """
    if activations == "fp32" or x.dtype != torch.float32:
        return x
    rounded: Tensor = _Rounded.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def of_one_type(found: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return tensors that go on together, as fp32 where one of them is."""
    alike = len({x.dtype for x in found}) == 1
    return found if alike else [widened(x) for x in found]


def widened(x: Tensor) -> Tensor:
    """Return bf16 as fp32, anything else as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x
