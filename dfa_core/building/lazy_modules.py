"""Refuses lazy modules: their weights depend on their first input, not on (seed, layer) alone."""

from torch import nn
from torch.nn.parameter import is_lazy

from dfa_core.errors import JobError


def refuse_lazy(module: nn.Module, place: str) -> None:
    """Raise JobError for a module, or a part of it, whose weights do not exist yet.

    place: where the module is in the model, for the message.
    """
    for part in module.modules():
        own = (*part.parameters(recurse=False), *part.buffers(recurse=False))
        if any(is_lazy(tensor) for tensor in own):
            name = type(part).__name__
            raise JobError(
                f"{place} holds a {name}, whose weights are made at its first input and would not "
                f"depend on the seed and the layer alone; use {name.removeprefix('Lazy')} with its "
                f"sizes instead"
            )
