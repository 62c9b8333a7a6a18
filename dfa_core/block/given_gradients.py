"""A backward pass that starts from given gradients of several tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def with_gradients(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return a scalar whose gradients with regard to the outputs are the given ones.

    torch.autograd.backward(outputs, gradients) does the same, but its check of the shapes imports
    a computer algebra system, which takes half a second in each process.
    """
    scalar: Tensor = _GivenGradients.apply(gradients, *outputs)  # type: ignore[no-untyped-call]
    return scalar


class _GivenGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradients: Sequence[Tensor], *outputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return outputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.gradients
