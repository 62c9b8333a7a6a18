"""Reads text files of rows, and says in which line something is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dfa_core import JobError

T = TypeVar("T")


def rows(
    path: Path, columns: int, parse: Callable[[list[str]], T], least: int | None = None
) -> Iterator[T]:
    """Yield what parse() makes of each row, one row in memory at a time.

    Columns are separated by tabs, or by `|` where the first line has no tab; a first line of names
    is skipped.

    least: so few columns may a row have in a file all of whose lines lost the separators at their
        end; the others are then empty.

    Raises JobError, with file and line, for a row of another number of columns, for one that
    parse() raises ValueError for, and for a file without rows.
    """
    empty, whole, separator, short = True, False, "", ""
    try:
        with path.open(encoding="latin-1", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                separator = separator or ("\t" if "\t" in line else "|")
                row = line.rstrip("\r\n").split(separator)
                if number == 1 and not row[0].isdigit() and len(row) == columns:
                    continue  # names
                if len(row) != columns:
                    short = short or f"line {number}: has {len(row)} column(s), not {columns}"
                whole = whole or row[-1] == ""
                if short and (whole or not (least or columns) <= len(row) <= columns):
                    raise JobError(f"{path}, {short}")
                row += [""] * (columns - len(row))
                try:
                    yield parse(row)
                except ValueError as error:
                    raise JobError(f"{path}, line {number}: {error}") from error
                empty = False
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error}") from error
    if empty:
        raise JobError(f"{path}: has no rows")
