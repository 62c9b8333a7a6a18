"""Plans a job, feeds the data, owns head and loss, broadcasts the error.

Read engine/loop.py first: it is what the coordinator does in a step.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.launch.train import Run, train

__all__ = ["Run", "train"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: torch and Ray take seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("coordinator.launch.notebook.kernel").import_ray_quietly()
    return getattr(import_module("coordinator.launch.train"), name)
