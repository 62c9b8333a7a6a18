"""Compiles modules by torch.compile, the same way in every process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dfa_core.activations import Activations

_MOST = 1000  # compiled versions of one piece of code


def compiled(module: nn.Module) -> Callable[..., Activations]:
    """Return a function that calls the module by compiled code; it is compiled at its first call.

    Each shape of inputs gets code of its own. Code for any shape may round differently, and torch
    would use it in those processes alone that have seen several shapes.
    """
    import torch._dynamo.config as tracing  # noqa: PLC0415  # takes seconds
    import torch._inductor.config as code  # noqa: PLC0415

    code.compile_threads = 1  # no pool of processes that outlives a worker
    tracing.recompile_limit = _MOST  # several layers may share one class's code
    tracing.fail_on_recompile_limit_hit = True  # otherwise it continues without, and silently
    make: Any = torch.compile
    found: Callable[..., Activations] = make(module, dynamic=False)
    return found
