"""Copies the modules that a task hands over, so that they stay as they are."""

import copy
import weakref
from typing import Any

from torch import Tensor, nn

from dfa_core.building.rebound import rebind_functions
from dfa_core.errors import JobError

_USED: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # what cannot be copied and was handed out


def own_copy(module: nn.Module) -> nn.Module:
    """Return a copy with the same weights, buffers, modes and hooks, without gradients.

    A module that cannot be copied is returned itself, once.

    Raises JobError if that module comes a second time.
    """
    copies: dict[int, Any] = {**_computed_tensors(module)}
    try:
        copied = copy.deepcopy(module, copies)
        rebind_functions(module, copied, copies)
        return copied
    except Exception as error:  # any that a member's own __deepcopy__ raises
        if module in _USED:
            raise JobError(
                f"a factory returned the same {type(module).__name__} again, and it cannot be "
                f"copied ({error}); let the factory make a new one each time"
            ) from error
        _USED.add(module)
        return module


def _computed_tensors(module: nn.Module) -> dict[int, Tensor]:
    """Return copies, by id, of the attributes that a forward computes from other weights.

    torch copies no tensor that has a graph. Such are the weights of torch.nn.utils.weight_norm,
    which each forward computes again.
    """
    attributes = (value for part in module.modules() for value in vars(part).values())
    return {
        id(value): value.detach().clone()
        for value in attributes
        if isinstance(value, Tensor) and not value.is_leaf
    }
