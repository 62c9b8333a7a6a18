"""errorcast: training by Direct Feedback Alignment, every layer block in a process of its own.

`train` runs a job here or on a cluster, `Task`, `Splits` and `Model` describe what is trained,
`Callback` and `StopTraining` are for your own code in a run, and `Client` talks with a service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from errorcast import _own_packages

if TYPE_CHECKING:
    from coordinator import train
    from coordinator.client import Client
    from dfa_core import Model
    from dfa_tasks import Callback, Splits, StopTraining, Task

__all__ = ["Callback", "Client", "Model", "Splits", "StopTraining", "Task", "train"]

_own_packages.put_first()
_HOMES = {
    "Callback": "dfa_tasks",
    "Client": "coordinator.client",
    "Model": "dfa_core",
    "Splits": "dfa_tasks",
    "StopTraining": "dfa_tasks",
    "Task": "dfa_tasks",
    "train": "coordinator",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: torch and Ray take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
