"""Packs objects that use a user's own code, so that the workers can unpack them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle

from dfa_tasks.registry import user_modules
from workers.payload import PickledPayload


def pack(thing: Any, working_dir: str = "", folders: Sequence[str] | None = None) -> PickledPayload:
    """Pickle something for the workers, including the code of users' task files.

    working_dir: where relative paths in that code start, in the workers too.
    folders: where the workers look for the user's other modules; by default own_folders().
    """
    for module in user_modules():
        cloudpickle.register_pickle_by_value(module)
    return PickledPayload.pack(thing, own_folders() if folders is None else folders, working_dir)


def own_folders() -> tuple[str, ...]:
    """Return the folders of this process's module path, absolute.

    In a notebook and under `python -c`, the current folder is one of them.
    """
    folders = [str(Path(folder or ".").absolute()) for folder in sys.path]
    if getattr(sys.modules.get("__main__"), "__file__", None) is None:
        folders.append(str(Path.cwd()))
    return tuple(folders)
