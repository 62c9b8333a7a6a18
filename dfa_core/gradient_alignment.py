"""Gradient alignment: how well DFA's update of each layer agrees with the exact gradient."""

import torch
from torch import Tensor

from dfa_core.reference import Reference
from dfa_core.rule import Method


def alignment(reference: Reference, step: int, x: Tensor, target: Tensor) -> list[float]:
    """Return the cosine between DFA's and the exact gradient of each layer, for one batch.

    1 is the exact direction, 0 is a random one, and a layer without weights gets NaN. The weights
    do not change. This is the measure of arXiv 2006.12878, section 2.

    x, target: the batch, (samples, ...), which the rule's number of microbatches must divide.

    Raises JobError if model and batch do not fit, NonFiniteLoss for a loss of NaN or infinity.
    """
    local = _gradients(reference, "dfa", step, x, target)
    exact = _gradients(reference, "bp", step, x, target)
    return [
        float(torch.nn.functional.cosine_similarity(a, b, dim=0)) if len(a) else float("nan")
        for a, b in zip(local, exact, strict=True)
    ]


def _gradients(
    reference: Reference, method: Method, step: int, x: Tensor, target: Tensor
) -> list[Tensor]:
    try:
        reference.add_gradients(step, x, target, method)
        return [
            torch.cat([torch.zeros(0)] + [_flat(p) for p in layer.weights()])
            for layer in reference.layers
        ]
    finally:
        for module in reference.trained_modules():
            module.clear_gradients()


def _flat(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    return (torch.zeros_like(parameter) if gradient is None else gradient.detach()).flatten()
