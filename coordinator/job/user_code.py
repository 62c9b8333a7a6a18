"""Packs objects that use a user's own code, so that the workers can unpack them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle

from dfa_core import JobError
from dfa_tasks.registry import user_modules
from workers.payload import PickledPayload


def pack(thing: Any, working_dir: str = "", folders: Sequence[str] | None = None) -> PickledPayload:
    """Pickle something for the workers, including the code of users' task files.

    working_dir: where relative paths in that code start, in the workers too.
    folders: where the workers look for the user's other modules; by default own_folders().

    Raises JobError for something that cannot be pickled.
    """
    for module in user_modules():
        cloudpickle.register_pickle_by_value(module)
    where = own_folders() if folders is None else folders
    try:
        return PickledPayload.pack(thing, where, working_dir)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise JobError(
            f"the task cannot be sent to the workers ({reason}); build what it holds inside its "
            f"functions, and the model's modules inside the factories of a dfa_core.Model"
        ) from error


def own_folders() -> tuple[str, ...]:
    """Return the folders of this process's module path, absolute.

    In a notebook and under `python -c`, the current folder is one of them.
    """
    folders = [str(Path(folder or ".").absolute()) for folder in sys.path]
    if getattr(sys.modules.get("__main__"), "__file__", None) is None:
        folders.append(str(Path.cwd()))
    return tuple(folders)
