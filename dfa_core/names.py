"""Turns a misspelt name into a message that says what was meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?` for the closest known names, else the list of all of them."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=3, cutoff=0.5)
    found = [n for n in names if n.lower() in close]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"known: {', '.join(sorted(names))}" if names else "none is known"
