"""Suggests the names that a misspelt one may mean."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?` with the closest known names, or the list of all of them."""
    names = list(known)
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(by_lower[n] for n in close)}?"
    return f"known: {', '.join(sorted(names))}" if names else "none is known"
