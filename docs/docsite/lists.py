"""Lists as Python-Markdown reads them.

On GitHub, the text of a list item and everything in it begin at the column of the item's text.
Python-Markdown, which renders the site, wants four columns a level, and an empty line before a
list. The documents are written for GitHub, and changed here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKER = re.compile(r"([-*+]|\d+[.)])( +)")
_LISTS = ("bullet_list_open", "ordered_list_open")
_DEPTH = 4


@dataclass(frozen=True)
class _Item:
    """A list item: its lines, from 0, and the columns at which its marker and its text begin."""

    first: int
    end: int
    column: int
    text_column: int


def as_python_markdown(text: str) -> str:
    """Return Markdown that Python-Markdown renders as GitHub renders the given text."""
    lines = text.split("\n")
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    items = list(_items(tokens, lines))
    starts = {token.map[0] for token in tokens if token.type in _LISTS and token.map}
    after_loose = {item.end for item in items if not all(lines[item.first : item.end])}
    result: list[str] = []
    for number, line in enumerate(lines):
        around = [item for item in items if item.first <= number < item.end]
        begins_list = number in starts and len(around) == 1
        if (begins_list or number in after_loose) and result and result[-1].strip():
            result.append("")
        result.append(_moved(line, number, around))
    return "\n".join(result)


def _moved(line: str, number: int, around: list[_Item]) -> str:
    """Return a line with four columns for each list item that it continues.

    around: the items that the line is in, outermost first.
    """
    if not around or not line.strip():
        return line
    inner = around[-1]
    if number != inner.first:
        rest = line[min(inner.text_column, len(line) - len(line.lstrip())) :]
        return " " * (_DEPTH * len(around)) + rest
    return " " * (_DEPTH * (len(around) - 1)) + line[inner.column :]


def _items(tokens: list[Token], lines: list[str]) -> Iterator[_Item]:
    for token in tokens:
        if token.type == "list_item_open" and token.map:
            first, end = token.map
            line = lines[first]
            column = len(line) - len(line.lstrip())
            marker = _MARKER.match(line, column)
            yield _Item(first, end, column, marker.end() if marker else column + 2)
