"""Finds errorcast's packages before files of the same names on PYTHONPATH.

A user's own workers.py or coordinator.py would hide ours, here and in every process that is started
from here.
"""

import importlib.util
import os
import sys
from pathlib import Path

_NAMES = ("coordinator", "dfa_core", "dfa_speedup", "dfa_tasks", "workers")


def put_first() -> None:
    """Put the folders of our packages first on the path, if a file hides one of them."""
    here = Path(__file__).parent.parent
    homes = [home for home in (here, here.parent) if (home / _NAMES[0] / "__init__.py").is_file()]
    if not homes or all(_is_in(name, homes[0]) for name in _NAMES):
        return
    first = [str(home) for home in dict.fromkeys((homes[0], here))]
    sys.path[:0] = first
    os.environ["PYTHONPATH"] = os.pathsep.join([*first, os.environ.get("PYTHONPATH", "")])
    for name in _NAMES:
        if name in sys.modules and not _is_in(name, homes[0]):
            del sys.modules[name]


def _is_in(name: str, home: Path) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that was made by hand
        return False
    origin = spec.origin if spec is not None else None
    return origin is not None and Path(origin).resolve().parent.parent == home.resolve()
