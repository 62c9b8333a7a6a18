"""A table that stays readable on a terminal of 80 columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table


@dataclass(frozen=True)
class WideTable:
    """A table, or two where the terminal is too narrow for one.

    keys: the first columns, which are in both. second: the columns that move to the second table.
    notes: lines below the tables.
    """

    title: str
    keys: Sequence[str]
    first: Sequence[str]
    second: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table where it fits, otherwise two."""
        keys, first = len(self.keys), len(self.first)
        every = range(keys + first + len(self.second))
        needed = sum(self._width(index) + 2 for index in every) - 2  # two spaces between them
        if needed <= options.max_width:
            yield self._table(every, self.title)
        else:
            yield self._table(every[: keys + first], self.title)
            yield self._table([*every[:keys], *every[keys + first :]], "")
        yield from self.notes

    def _width(self, index: int) -> int:
        """Return the width of a column in which its name may wrap, but neither words nor cells."""
        words = [*self.keys, *self.first, *self.second][index].split()
        return max(map(len, [*words, *(row[index] for row in self.rows)]))

    def _table(self, chosen: Sequence[int], title: str) -> Table:
        table = Table(
            title=title or None,
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
            pad_edge=False,
        )
        names = [*self.keys, *self.first, *self.second]
        for index in chosen:
            text = index == 0 and not all(row[0].isdecimal() for row in self.rows)
            table.add_column(
                "\n".join(wrap(names[index], self._width(index), break_long_words=False)),
                justify="left" if text else "right",
                overflow="fold",
                no_wrap=text,
            )
        for row in self.rows:
            table.add_row(*(row[index] for index in chosen))
        return table
