"""Checks that the layers which a user has cut a module into compute what the module does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfa_core.activations import tensors
from dfa_core.errors import JobError
from dfa_core.model import Model

_SAMPLES = 2  # that are tried
_ROUNDING = 1e-3  # relative to the largest output


def check_same_output(model: Model, seed: int, whole: nn.Module, x: Tensor) -> None:
    """Raise JobError where the layers and the head in a row compute something else than the whole.

    Both are in evaluation mode. seed: of the model's first weights. x: inputs of some samples.
    """
    x = x[:_SAMPLES]
    layers = [model.build_layer(index, seed) for index in range(len(model.layers))]
    modes = [(part, part.training) for part in whole.modules()]
    whole.eval()
    try:
        with torch.no_grad():
            expected = whole(x)
            h: Sequence[Tensor] = (x,)
            for part in (*layers, model.build_head(seed)):
                h = tensors(part.eval()(*h))
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(expected, Tensor):
        name = type(expected).__name__
        raise JobError(f"layers_of: {type(whole).__name__} returns {name}, and not a tensor")
    scale = expected.abs().max().clamp(min=1)
    if h[0].shape != expected.shape or bool((h[0] - expected).abs().max() > _ROUNDING * scale):
        raise JobError(
            f"layers_of: the parts of {type(whole).__name__} in a row compute something else than "
            f"the module; its forward must do nothing between them: put reshapes and additions "
            f"into the parts"
        )
