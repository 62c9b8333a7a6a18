"""Lets stdout and stderr take any text, whatever their encoding: no sign may cost a result."""

import io
import sys

from coordinator.experiments.text.spelling import HANDLER


def accept_all_text() -> None:
    """Spell what stdout and stderr cannot encode: ± as +-, and others as their escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
