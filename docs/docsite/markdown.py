"""Pieces of Markdown that the generated pages are made of."""

from collections.abc import Iterable
from textwrap import fill


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; a column without any text is dropped."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    kept = [i for i in range(len(lines[0])) if any(row[i] for row in lines[1:])]
    lines = [tuple(row[i].replace("|", "\\|") for i in kept) for row in lines]
    marks = "|".join("---" for _ in kept)
    shown = [f"| {' | '.join(row)} |" for row in lines]
    return "\n".join([shown[0], f"|{marks}|", *shown[1:]]) + "\n"


def wrapped(text: str) -> str:
    """Return a paragraph in lines of at most 110 characters."""
    return fill(text, 110, break_long_words=False, break_on_hyphens=False) + "\n"
