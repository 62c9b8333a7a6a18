"""Standard output and standard error: any text in any encoding, and readers that go away."""

import io
import os
import sys
from pathlib import Path
from typing import IO

from coordinator.experiments.text.spelling import HANDLER


def accept_all_text() -> None:
    """Spell what stdout and stderr cannot encode: ± as +-, and others as their escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def reader_has_left() -> bool:
    """Return whether standard output is a pipe that nobody reads; if so, write into it no more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        return True
    return False


def discard(stream: IO[str]) -> None:
    """Lead a stream, and what its buffer holds, nowhere."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
