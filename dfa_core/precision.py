"""The number formats that layers compute in and pass on; weights are fp32.

A layer that computes in bf16 passes bf16 on if its last operation gave bf16, as under autocast.
Head, loss and error are fp32. How the error travels is in feedback/error_format.py.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from dfa_core.activations import as_received

Precision = Literal["fp32", "bf16"]


def computing_in(precision: Precision, like: Tensor) -> AbstractContextManager[object]:
    """Return a context in which torch computes what autocast allows in this format.

    like: any tensor on the device that computes.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(like.device.type, dtype=torch.bfloat16, cache_enabled=False)


class _Rounded(torch.autograd.Function):
    """Rounds fp32 to the nearest bf16, kept in fp32; the gradient passes unchanged."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient

    @staticmethod
    def jvp(_: Any, tangent: Tensor) -> Tensor:
        return tangent


def passed_on(outputs: Sequence[Tensor], activations: Precision) -> tuple[Tensor, ...]:
    """Return a layer's output tensors as the next layer gets them, wherever that layer lives.

    They have one dtype: fp32 if they were of several. With `activations="bf16"`, fp32 is rounded
    after every layer, not only between blocks: bits must not depend on where the model is cut.
    For the same reason they are laid out as after a message.
    """
    if len({output.dtype for output in outputs}) > 1:
        outputs = [widened(output) for output in outputs]
    return tuple(as_received(_rounded(output, activations)) for output in outputs)


def _rounded(x: Tensor, activations: Precision) -> Tensor:
    if activations == "fp32" or x.dtype != torch.float32:
        return x
    rounded: Tensor = _Rounded.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def widened(x: Tensor) -> Tensor:
    """Return bf16 as fp32, and any other dtype unchanged."""
    return x.float() if x.dtype == torch.bfloat16 else x
