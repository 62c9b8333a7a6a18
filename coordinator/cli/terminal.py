"""Prints what the terminal can take: text in any encoding, and no moving bars in a notebook."""

import codecs
import io
import os
import sys

_NAME = "errorcast"
_SPELLED = {"±": "+-", "…": "..."}


def accept_all_text() -> None:
    """Spell what stdout and stderr cannot encode: ± as +-, and others as their escapes."""
    codecs.register_error(_NAME, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def keep_still_in_notebooks() -> None:
    """Draw no moving bars for `!errorcast train` in a cell, which would keep each of their states.

    A notebook's kernel sets the variable for its own processes; rich reads the other one.
    """
    if "JPY_PARENT_PID" in os.environ:
        os.environ.setdefault("TTY_INTERACTIVE", "0")


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    escaped = (c.encode("ascii", "backslashreplace").decode("ascii") for c in signs)
    spelled = (_SPELLED.get(sign, escape) for sign, escape in zip(signs, escaped, strict=True))
    return "".join(spelled), error.end
