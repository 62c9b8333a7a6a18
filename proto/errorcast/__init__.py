"""errorcast: training by Direct Feedback Alignment, every layer block in a process of its own.

`train` runs a job here or on a cluster, `Task`, `Splits` and `Model` describe what is trained, and
`Client` talks with a service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from errorcast import _own_packages

if TYPE_CHECKING:
    from coordinator import train
    from coordinator.client import Client
    from dfa_core import Model
    from dfa_tasks import Splits, Task

__all__ = ["Client", "Model", "Splits", "Task", "train"]

_own_packages.put_first()
_HOMES = {
    "Client": "coordinator.client",
    "Model": "dfa_core",
    "Splits": "dfa_tasks",
    "Task": "dfa_tasks",
    "train": "coordinator",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: torch and Ray take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
