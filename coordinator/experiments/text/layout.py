"""Chooses the form of a table for a width: one table, several, or a block of lines for each row."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from coordinator.experiments.text.folding import folded

_GAPS = (2, 1)  # spaces between columns
_LINES_OF_NAME = 2
_TALLEST = 4  # lines of a cell; a taller one is easier to read in another form


@dataclass(frozen=True)
class Column:
    """A column of a table.

    right: whether cells are aligned at the right, as numbers are.
    key: whether it names the row; each part of a divided table shows it.
    optional: 0 if it is always shown; where the width is not enough, the highest number goes first.
    """

    name: str
    right: bool = False
    key: bool = False
    optional: int = 0


@dataclass(frozen=True)
class Part:
    """A table, or a part of one: its columns, their widths, and the spaces between them."""

    columns: Sequence[int]
    widths: Sequence[int]
    gap: int


@dataclass(frozen=True)
class Layout:
    """How a table is shown.

    parts: tables, one below the other; none if each row is a block of lines.
    dropped: the columns that are not shown.
    """

    parts: Sequence[Part]
    dropped: Sequence[int] = ()


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Layout:
    """Return the first form that fits.

    These are: one table; one with folded cells; one without optional columns; several tables that
    repeat the key columns; a block of lines for each row. No form but the last breaks a word.
    """
    fitting = _Fitting(columns, rows, width)
    every = range(len(columns))
    optional = sorted((i for i in every if columns[i].optional), key=lambda i: columns[i].optional)
    for shown in range(len(optional), -1, -1):
        dropped = optional[shown:]
        part = fitting.part([i for i in every if i not in dropped])
        if part is not None:
            return Layout([part], sorted(dropped))
    return Layout(fitting.divided())


class _Fitting:
    """Knows how wide the columns of a table are, and which of them fit beside each other."""

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
    ) -> None:
        self._columns, self._rows, self._width = columns, rows, width
        every = range(len(columns))
        self._least = [self._widest(index, str.split) for index in every]
        self._most = [self._widest(index, lambda cell: [cell.strip()]) for index in every]
        self._named = [self._with_name(index) for index in every]

    def _widest(self, index: int, parts: Callable[[str], Iterable[str]]) -> int:
        """Return the width of the widest part of a column's cells; its name may fold."""
        cells = (part for row in self._rows for part in parts(row[index]))
        return max(map(cell_len, [*self._columns[index].name.split(), *cells]), default=0)

    def _with_name(self, index: int) -> int:
        """Return the width with which the name folds into two lines at most, and no cell folds."""
        name, wide = self._columns[index].name, self._most[index]
        while sum(1 for _ in folded(name, max(1, wide))) > _LINES_OF_NAME:
            wide += 1
        return wide

    def part(self, chosen: Sequence[int]) -> Part | None:
        """Return these columns side by side, or None if they do not fit."""
        for widths in (self._whole, self._folded):
            for gap in _GAPS:
                found = widths(chosen, self._width - gap * (len(chosen) - 1))
                if found is not None:
                    return Part(chosen, found, gap)
        return None

    def _whole(self, chosen: Sequence[int], width: int) -> list[int] | None:
        """Return widths that fit, with which no cell is folded."""
        least, most = ([of[index] for index in chosen] for of in (self._most, self._named))
        return _between(least, most, width)

    def _folded(self, chosen: Sequence[int], width: int) -> list[int] | None:
        """Return widths that fit, with which cells fold into a few lines, between words."""
        least, most = ([of[index] for index in chosen] for of in (self._least, self._most))
        widths = _between(least, most, width)
        if widths is None:
            return None
        pairs = zip(chosen, widths, strict=True)
        tall = any(
            sum(1 for _ in folded(row[index], wide)) > _TALLEST
            for index, wide in pairs
            for row in self._rows
        )
        return None if tall else widths

    def divided(self) -> list[Part]:
        """Return parts that all begin with the key columns; none if they do not fit either."""
        keys = [i for i, column in enumerate(self._columns) if column.key]
        others = [i for i, column in enumerate(self._columns) if not column.key]
        parts: list[Part] = []
        chosen = keys
        for index in others if keys else ():
            part = self.part([*chosen, index])
            if part is None:
                part = self.part([*keys, index])
                if part is None:
                    return []
                chosen = keys
            elif parts:
                parts.pop()
            parts.append(part)
            chosen = [*chosen, index]
        return parts


def _between(least: Sequence[int], most: Sequence[int], width: int) -> list[int] | None:
    """Return widths from `least` up to `most` that fit; the widest give way first."""
    if sum(least) > width:
        return None
    limit = max(most)
    widths = [*most]
    while sum(widths) > width:
        limit -= 1
        widths = [max(low, min(high, limit)) for low, high in zip(least, most, strict=True)]
    for place, widest in enumerate(most):  # what is left, from the first column on
        widths[place] += min(width - sum(widths), widest - widths[place])
    return widths
