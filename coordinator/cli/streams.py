"""Standard output and standard error: any text, any width, and readers that go away."""

import io
import os
import sys
from pathlib import Path
from typing import IO

from coordinator.experiments.text.spelling import HANDLER

_NARROWEST = 20  # columns


def accept_all_text() -> None:
    """Spell what stdout and stderr cannot encode: ± as +-, and others as their escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def honour_columns() -> None:
    """Let COLUMNS mean the same everywhere: rich takes 0 for a width, and none if TERM is dumb."""
    columns = os.environ.get("COLUMNS", "")
    if not columns.isdecimal() or int(columns) == 0:
        os.environ.pop("COLUMNS", None)
        return
    os.environ["COLUMNS"] = str(max(_NARROWEST, int(columns)))
    if os.environ.get("TERM") in ("dumb", "unknown"):
        os.environ.setdefault("LINES", "25")  # rich looks at both or at neither


def keep_still_in_notebooks() -> None:
    """Draw no moving bars for `!errorcast train` in a cell, which would keep each of their states.

    A notebook's kernel sets the variable for its own processes; rich reads the other one.
    """
    if "JPY_PARENT_PID" in os.environ:
        os.environ.setdefault("TTY_INTERACTIVE", "0")


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
