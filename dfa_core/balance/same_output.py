"""Checks that the layers which a user has cut a module into compute what the module does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfa_core.activations import described, tensors
from dfa_core.building.zero_weights import is_close, without_zero_weights
from dfa_core.errors import JobError, reason
from dfa_core.model import Model

_SAMPLES = 2  # that are tried
_ROUNDING = 1e-3  # relative to the largest output


def check_same_output(model: Model, seed: int, whole: nn.Module, x: Tensor) -> None:
    """Raise JobError where the layers and the head in a row do not compute what the whole does.

    Both are in evaluation mode. seed: of the model's first weights. x: inputs of some samples.
    """
    modes = [(part, part.training) for part in whole.modules()]
    whole.eval()
    try:
        with torch.no_grad(), without_zero_weights(whole):
            expected, found = _outputs(model, seed, whole, x[:_SAMPLES])
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(expected, Tensor):
        name = type(expected).__name__
        raise JobError(f"layers_of: {type(whole).__name__} returns {name}, and not a tensor")
    if not is_close(found, expected, _ROUNDING):
        raise JobError(
            f"layers_of: the parts of {type(whole).__name__} do not compute what the module "
            f"computes when they are called one after another; its forward must do nothing between "
            f"them: put reshapes and additions into the parts"
        )


def _outputs(model: Model, seed: int, whole: nn.Module, x: Tensor) -> tuple[object, Tensor]:
    """Return what the whole computes, and what its parts do. Raises JobError where one fails."""
    layers = [model.build_layer(index, seed) for index in range(len(model.layers))]
    running = type(whole).__name__
    try:
        expected = whole(x)
        h: Sequence[Tensor] = (x,)
        for index, part in enumerate((*layers, model.build_head(seed))):
            running = "the head" if index == len(layers) else f"layer {index}"
            h = tensors(part.eval()(*h))
    except JobError:
        raise
    except Exception as error:
        raise JobError(
            f"layers_of: {running} fails on inputs of {described([x])}: {reason(error)}"
        ) from error
    return expected, h[0]
