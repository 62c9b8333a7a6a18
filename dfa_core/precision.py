"""Which numbers layers compute in; weights, activations between layers and the error are fp32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16"]


def computing_in(precision: Precision, like: Tensor) -> AbstractContextManager[object]:
    """Let torch compute what allows it in bf16, on the device of `like` (autocast)."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(like.device.type, dtype=torch.bfloat16, cache_enabled=False)


def widened(x: Tensor) -> Tensor:
    """Return bf16 as fp32, anything else as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x
