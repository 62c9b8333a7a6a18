"""Files and folders that appear completely or not at all, and a lock that dies with its process."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path next to `path` to write a file or a folder to; rename it at the end.

    The content is on the disk before it gets its name: after a crash, all of it is there or
    nothing. After an exception nothing is left.

    Raises OSError when the rename fails, also where `path` is a folder that is not empty.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        for file in [*unfinished.rglob("*")] if unfinished.is_dir() else []:
            _sync(file)
        _sync(unfinished)
        os.rename(unfinished, path)  # noqa: PTH104
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(unfinished)
        raise
    _sync(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file as atomic_path() does. Raises OSError when the write fails.

    mode: of a new file.
    """
    with atomic_path(path) as unfinished:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)


@contextmanager
def locked_file(path: Path, patience_s: float = 0.0) -> Iterator[IO[str]]:
    """Hold an exclusive lock on a file; the system frees it when the process ends.

    Raises BlockingIOError when another process holds it for longer than `patience_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield file


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
