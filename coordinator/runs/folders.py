"""Makes folders that belong to one run, and keeps other runs out of them."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dfa_core import JobError
from dfa_core.atomic_file import locked_file

_LOCK_S = 8.0  # Ray takes five seconds to kill a process that was stopped
_LOCK = "lock"


def new_folder(stem: str, parent: str = "runs") -> Path:
    """Make a folder PARENT/STEM-DATE-TIME and return it; no other process gets the same one.

    Those that are made in the same second end with -2, -3... Raises JobError when the folder cannot
    be made.
    """
    above, base = Path(parent).absolute(), f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        path = above / (base if number == 1 else f"{base}-{number}")
        try:
            above.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if not above.is_dir():
                raise JobError(f"run folder {path} cannot be made: {above} is a file") from None
            continue  # another process was faster
        except OSError as error:
            raise JobError(f"run folder {path} cannot be made: {error}") from error
        return path
    raise AssertionError("a free number is found")


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Keep other runs out of a folder inside the block; the lock dies with its process.

    Makes the folder. Raises JobError when another run has it and keeps it for some seconds, or when
    it cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(path / _LOCK, _LOCK_S))
        except BlockingIOError as error:
            raise JobError(f"{path}: another run is using this folder") from error
        except OSError as error:
            raise JobError(f"run folder {path} cannot be written: {error}") from error
        yield


@contextmanager
def folder_of_runs(given: Path | None, stem: str, parent: str = "runs") -> Iterator[Path]:
    """Give the folder of an experiment with several runs, locked; by default a new one in PARENT/.

    A new one that nothing was written to is removed. Raises JobError as locked_folder() does.
    """
    path = given.absolute() if given is not None else new_folder(stem, parent)
    try:
        with locked_folder(path):
            yield path
    finally:
        if given is None and [entry.name for entry in path.iterdir()] == [_LOCK]:
            (path / _LOCK).unlink()
            path.rmdir()
