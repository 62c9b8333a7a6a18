"""A table that stays readable on a terminal of 80 columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

_UNLIMITED = 10_000


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
        whole = self._table(every, self.title)
        needed = console.measure(whole, options=options.update(max_width=_UNLIMITED)).maximum
        if needed <= options.max_width:
            yield whole
        else:
            yield self._table(every[: keys + first], self.title)
            yield self._table([*every[:keys], *every[keys + first :]], "")
        yield from self.notes

    def _table(self, chosen: Sequence[int], title: str) -> Table:
        table = Table(title=title or None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        names = [*self.keys, *self.first, *self.second]
        for index in chosen:
            text = index == 0 and not all(row[0].isdecimal() for row in self.rows)
            table.add_column(
                names[index], justify="left" if text else "right", overflow="fold", no_wrap=text
            )
        for row in self.rows:
            table.add_row(*(row[index] for index in chosen))
        return table
