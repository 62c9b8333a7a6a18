"""Lets the terminal take any text, whatever its encoding: a result must not be lost to a sign."""

import codecs
import io
import sys

_NAME = "errorcast"
_SPELLED = {"±": "+-", "…": "..."}


def accept_all_text() -> None:
    """Spell what stdout and stderr cannot encode: ± as +-, and others as their escapes."""
    codecs.register_error(_NAME, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    escaped = (c.encode("ascii", "backslashreplace").decode("ascii") for c in signs)
    spelled = (_SPELLED.get(sign, escape) for sign, escape in zip(signs, escaped, strict=True))
    return "".join(spelled), error.end
