"""Reads text files of rows, and names the line of each error."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from dfa_core import JobError

T = TypeVar("T")
Numbered = tuple[int, list[str]]


def rows(
    path: Path, columns: int, parse: Callable[[list[str]], T], least: int | None = None
) -> Iterator[T]:
    """Yield parse(row) for each row, with one row in memory at a time.

    Tabs separate the columns, or `|` if the first line has no tab. A first line of column names is
    skipped.

    least: smallest number of columns of a row, by default all. Some copies of a file have lost the
        separators at the ends of all their lines; the missing columns are then empty.

    Raises JobError, with file and line, for a row with a wrong number of columns and for one that
    parse() raises ValueError for, and JobError for a file without rows.
    """
    empty = True
    for number, row in _filled(path, _split(path, columns), columns, least or columns):
        try:
            yield parse(row)
        except ValueError as error:
            raise JobError(f"{path}, line {number}: {error}") from error
        empty = False
    if empty:
        raise JobError(f"{path}: has no rows")


def _split(path: Path, columns: int) -> Iterator[Numbered]:
    """Yield each line's number and fields, except a first line of column names."""
    separator = ""
    for number, line in _lines(path):
        separator = separator or ("\t" if "\t" in line else "|")
        row = line.rstrip("\r\n").split(separator)
        has_names = number == 1 and not row[0].isdigit() and len(row) == columns
        if not has_names:
            yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="latin-1", newline="\n") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error}") from error


def _filled(
    path: Path, numbered: Iterable[Numbered], columns: int, least: int
) -> Iterator[Numbered]:
    """Yield rows of `columns` fields; add empty ones where a file has lost them.

    A row that ends with an empty field shows that its file has kept its separators. A row that is
    too short is then an error, which names the first such row.
    """
    first_short, kept = "", False
    for number, row in numbered:
        if len(row) != columns and not first_short:
            first_short = f"line {number}: has {len(row)} column(s), not {columns}"
        kept = kept or row[-1] == ""
        if first_short and (kept or not least <= len(row) <= columns):
            raise JobError(f"{path}, {first_short}")
        yield number, row + [""] * (columns - len(row))
