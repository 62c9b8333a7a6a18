"""Makes the paths in a job absolute: Ray's processes and later commands run in other folders."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errorcast.v1.job_pb2 import JobSpec

from dfa_tasks.registry import split_file


def place(spec: JobSpec, own_code: bool) -> None:
    """Make the paths in a message absolute; relative ones start in the current folder.

    own_code: the task is the user's, so that its code runs in spec.working_dir, which is the
        current folder where it is not given.
    """
    found = split_file(spec.task)
    if found is not None:
        spec.task = f"{_absolute(str(found[0]))}:{found[1]}"
    if spec.data_dir:
        spec.data_dir = _absolute(spec.data_dir)
    if spec.init:
        spec.init = _absolute(spec.init)
    if spec.checkpoint.path and "://" not in spec.checkpoint.path:
        spec.checkpoint.path = _absolute(spec.checkpoint.path)
    if own_code or spec.working_dir:
        spec.working_dir = _absolute(spec.working_dir or ".")


def same_task(there: str, asked: str) -> bool:
    """Return whether two names mean the same task: the same function in the same file, or a copy.

    A name from an older run, or from another machine, is not that of a file here: then the file's
    name and the function must be the same.
    """
    if there == asked:
        return True
    before, now = split_file(there), split_file(asked)
    if before is None or now is None:
        return False
    (old, was), (new, is_now) = before, now
    if was != is_now:
        return False
    if old.is_absolute() and old.is_file() and new.is_file():
        return old.samefile(new) or old.read_bytes() == new.read_bytes()
    return old.name == new.name


def in_folder(folder: str) -> AbstractContextManager[None]:
    """Return a context in which this folder is the current one, if there is such a folder."""
    there = bool(folder) and Path(folder) != Path.cwd() and Path(folder).is_dir()
    return contextlib.chdir(folder) if there else contextlib.nullcontext()


@dataclass(frozen=True)
class InFolder:
    """A function of the user's that runs in a folder, in whichever process it is called."""

    folder: str
    function: Callable[[], Any]

    def __call__(self) -> Any:
        """Call it there."""
        with in_folder(self.folder):
            return self.function()


def _absolute(path: str) -> str:
    return str(Path(path).absolute())
