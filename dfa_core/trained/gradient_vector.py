"""The gradients of one layer as one vector, so that replicas sum them in a single message."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gather_gradients(weights: Sequence[Tensor]) -> Tensor:
    """Return all gradients as one vector: their elements, then one flag for each weight.

    weights: at least one, all on one device. A weight without a gradient gives zeros and the
        flag 0, any other gives the flag 1.

    Returns (total elements + number of weights,), in the common dtype of the weights.
    """
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    has_gradient = torch.tensor([float(w.grad is not None) for w in weights])
    return torch.cat([*(g.reshape(-1) for g in gradients), has_gradient.to(weights[0])])


def scatter_gradients(vector: Tensor, weights: Sequence[Tensor]) -> None:
    """Set the gradients of the weights from a sum of such vectors, one from each replica.

    A weight gets a gradient if it had one on any replica.
    """
    sizes = [*(weight.numel() for weight in weights), len(weights)]
    has_gradient = vector[-len(weights) :].tolist()
    *gradients, _ = torch.split(vector.to(weights[0].device, non_blocking=True), sizes)
    for weight, gradient, present in zip(weights, gradients, has_gradient, strict=True):
        weight.grad = gradient.view(weight.shape) if present else None
