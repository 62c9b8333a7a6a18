"""Turns a misspelt name into a message that says what was meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?` for the closest known names, else the list of all of them."""
    names = list(known)
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.5)
    found = [by_lower[n] for n in close]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"known: {', '.join(sorted(names))}" if names else "none is known"
