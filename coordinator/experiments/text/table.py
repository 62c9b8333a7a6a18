"""A table for the terminal that never breaks a word: of its forms, the best that fits the width."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from coordinator.experiments.text.folding import folded
from coordinator.experiments.text.layout import Column, Part, layout
from coordinator.experiments.text.spelling import spelled

_INDENT = 2


@dataclass(frozen=True)
class TextTable:
    """A table with a title, and with notes below it.

    It takes the form that fits the width (layout.py). A word is broken only if it is wider than
    the terminal.

    rows: as many cells as columns. notes: lines below the table. more: where all columns are shown,
    such as `--format json`, for a table that has optional columns.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    more: str = "a wider terminal"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of the table."""
        width, encoding = options.max_width, options.encoding
        columns = [replace(one, name=spelled(one.name, encoding)) for one in self.columns]
        rows = [[spelled(cell, encoding).replace("\n", " ") for cell in row] for row in self.rows]
        form = layout(columns, rows, width)
        for line in _lines(self.title, encoding, width):
            yield _text(line, "bold")
        if not form.parts:
            yield from _blocks(columns, rows, width)
        for number, part in enumerate(form.parts):
            if number:
                yield _text("")
            yield from _part(columns, rows, part, "-" if options.ascii_only else "─")
        notes = list(self.notes)
        if form.dropped:
            names = ", ".join(self.columns[index].name for index in form.dropped)
            notes.append(f"not shown here: {names}; see {self.more}")
        for note in notes:
            for line in _lines(note, encoding, width):
                yield _text(line)


def _text(line: str, style: str = "") -> Text:
    return Text(line.rstrip(), style=style, no_wrap=True, overflow="ignore")


def _lines(text: str, encoding: str, width: int) -> Iterator[str]:
    for line in text.split("\n") if text else ():
        yield from folded(spelled(line, encoding), width)


def _part(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], part: Part, rule: str
) -> Iterator[Text]:
    """Yield the names, a rule and the rows of a part of a table."""
    shown = [columns[index] for index in part.columns]
    if any(column.name for column in shown):
        for line in _row([column.name for column in shown], shown, part, at_bottom=True):
            yield _text(line, "bold")
        yield _text(rule * (sum(part.widths) + part.gap * (len(part.widths) - 1)), "dim")
    for row in rows:
        for line in _row([row[index] for index in part.columns], shown, part, at_bottom=False):
            yield _text(line)


def _row(
    cells: Sequence[str], shown: Sequence[Column], part: Part, *, at_bottom: bool
) -> Iterator[str]:
    """Yield the lines of a row."""
    sides = [list(folded(cell, wide)) for cell, wide in zip(cells, part.widths, strict=True)]
    if at_bottom:
        height = max(map(len, sides))
        sides = [[""] * (height - len(side)) + side for side in sides]
    for line in zip_longest(*sides, fillvalue=""):
        padded = []
        for text, column, wide in zip(line, shown, part.widths, strict=True):
            spaces = " " * (wide - cell_len(text))
            padded.append(spaces + text if column.right else text + spaces)
        yield (" " * part.gap).join(padded)


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """Yield a block of lines for each row: its first cell, and below it the others with names."""
    for number, row in enumerate(rows):
        if number:
            yield _text("")
        for place, (column, cell) in enumerate(zip(columns, row, strict=True)):
            if not cell.strip():
                continue
            text = f"{column.name}: {cell}" if column.name else cell
            needed = max(map(cell_len, text.split()))
            before = " " * (_INDENT if place and needed <= width - _INDENT else 0)
            for line in folded(text, width - len(before), _INDENT):
                yield _text(before + line)
