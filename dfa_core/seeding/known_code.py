"""Finds out from which global generators a module or a function may draw.

Seeding all of them for every layer and microbatch would take longer than a small layer's forward.
torch's own modules are known. Whoever wrote any other code, it may draw from anything.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from dfa_core.seeding.draws import Draws

_OF_TORCH = (
    *("activation", "batchnorm", "channelshuffle", "container", "conv", "distance", "flatten"),
    *("fold", "instancenorm", "linear", "loss", "normalization", "padding", "pixelshuffle"),
    *("pooling", "sparse", "upsampling"),
)
_DRAW_NOTHING = ("dfa_core.model", *(f"torch.nn.modules.{name}" for name in _OF_TORCH))
_BUT = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
_LOSSES = ("loss", "cross_entropy", "kl_div")  # how the names of functional losses end
_TORCH_ALONE = ("torch.nn.", "dfa_core.", "dfa_tasks.")  # no module there draws from anything else


def draws_of(code: Any) -> Draws:
    """Return what a module, with all that it holds, or a function may draw from when it is called.

    Code that is not known may draw from anything.
    """
    if not isinstance(code, nn.Module):
        return _of_function(code)
    if _has_hooks_for_all():
        return Draws.ANYTHING
    return max(chain.from_iterable(map(_of_module, code.modules())))


def _of_module(module: nn.Module) -> Iterator[Draws]:
    """Yield what the module itself, its hooks and the functions that it holds may draw from."""
    where = type(module).__module__
    if where in _DRAW_NOTHING and not isinstance(module, _BUT):
        yield Draws.NOTHING
    else:
        yield Draws.TORCH if where.startswith(_TORCH_ALONE) else Draws.ANYTHING
    if module._forward_hooks or module._forward_pre_hooks or _has_backward_hooks(module):
        yield Draws.ANYTHING
    for held in vars(module).values():
        if callable(held) and not isinstance(held, type):
            yield _of_function(held)


def _of_function(function: Any) -> Draws:
    """Return what a function, with the functions that are bound to it, may draw from."""
    if isinstance(function, nn.Module):
        return draws_of(function)
    if isinstance(function, partial):
        bound = (*function.args, *function.keywords.values())
        return max(map(_of_function, (function.func, *filter(callable, bound))))
    where, name = (getattr(function, key, None) or "" for key in ("__module__", "__name__"))
    if where == "torch.nn.functional" and name.endswith(_LOSSES):
        return Draws.NOTHING
    return Draws.TORCH if where.startswith(_TORCH_ALONE) else Draws.ANYTHING


def _has_hooks_for_all() -> bool:
    """Return whether someone has registered hooks that every module calls."""
    hooks = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    return any(getattr(torch_module, f"_global_{kind}") for kind in hooks)


def _has_backward_hooks(module: nn.Module) -> bool:
    weights = module.parameters(recurse=False)
    of_weights = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return bool(module._backward_hooks or module._backward_pre_hooks) or any(
        getattr(weight, kind, None) for weight in weights for kind in of_weights
    )
