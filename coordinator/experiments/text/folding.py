"""Folds a line of text between words, by the width that a terminal gives to its signs."""

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

_WORDS = re.compile(r"(\s*)(\S+)")


def folded(text: str, width: int, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a text, at least one; spaces at both ends of a line are gone.

    A word is broken only where it is wider than the width. indent: spaces before each line but the
    first; none where a word needs the whole width.
    """
    line, first = "", True
    for spaces, word in _WORDS.findall(text):
        if line and cell_len(line) + cell_len(spaces) + cell_len(word) <= width:
            line += spaces + word
            continue
        if line:
            yield line
            first = False
        before = " " * (0 if first else indent)
        if cell_len(word) > width - len(before):
            before = ""
        *full, line = (
            chop_cells(before + word, width) if cell_len(word) > width else [before + word]
        )
        yield from full
        first = first and not full
    yield line
