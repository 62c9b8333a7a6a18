"""Tables of any width: no word is broken or lost, no line is too long."""

import io
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from coordinator.experiments.text.folding import folded
from coordinator.experiments.text.layout import Column
from coordinator.experiments.text.spelling import spelled
from coordinator.experiments.text.table import TextTable

WORDS = st.text(
    st.one_of(
        st.characters(codec="ascii", categories=["L", "N", "P", "S"]),
        st.sampled_from("ä±大界é→[]😀\u0301"),
    ),
    min_size=1,
    max_size=24,
)
CELLS = st.lists(WORDS, max_size=6).map("  ".join) | st.lists(WORDS, max_size=3).map(" ".join)


@st.composite
def tables(draw: st.DrawFn, optional: bool = False) -> TextTable:
    count = draw(st.integers(1, 9))
    flags = st.booleans()
    numbers = st.integers(0, 3) if optional else st.just(0)
    columns = [Column(draw(CELLS), draw(flags), draw(flags), draw(numbers)) for _ in range(count)]
    rows = st.lists(st.lists(CELLS, min_size=count, max_size=count), max_size=5)
    return TextTable(draw(CELLS), columns, draw(rows), notes=draw(st.lists(CELLS, max_size=2)))


def shown(table: TextTable, width: int, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(width=width, file=file, markup=False, emoji=False, color_system=None)
    console.print(table)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def words_of(cells: Sequence[str], encoding: str, width: int) -> Counter[str]:
    """Count the words that a terminal has to show whole."""
    texts = (spelled(cell, encoding) for cell in cells)
    return Counter(w for text in texts for w in text.split() if cell_len(w) <= width)


@given(tables(), st.integers(40, 200), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_no_word_of_a_cell_is_broken_or_lost(table: TextTable, width: int, encoding: str) -> None:
    lines = shown(table, width, encoding)
    assert all(cell_len(line) <= width for line in lines)
    cells = [cell for row in table.rows for cell in row]
    needed = words_of([*cells, table.title, *table.notes], encoding, width)
    there = Counter(word for line in lines for word in line.split())
    assert needed <= there


@given(tables(optional=True), st.integers(40, 200))
def test_only_optional_columns_are_dropped_and_a_line_says_which(
    table: TextTable, width: int
) -> None:
    lines = shown(table, width)
    there = Counter(word for line in lines for word in line.split())
    kept = [i for i, column in enumerate(table.columns) if not column.optional]
    assert words_of([row[i] for row in table.rows for i in kept], "utf-8", width) <= there
    if not words_of([cell for row in table.rows for cell in row], "utf-8", width) <= there:
        assert "not shown here:" in " ".join(lines)
        assert "a wider terminal" in " ".join(lines)


@given(CELLS, st.integers(4, 40), st.integers(0, 3))
def test_folding_keeps_all_words_and_the_width(text: str, width: int, indent: int) -> None:
    lines = list(folded(text, width, indent))
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for word in text.split():
        assert cell_len(word) > width or any(word in line for line in lines)


JOBS = TextTable(
    "jobs",
    [Column("job"), Column("blocks", right=True, optional=1), Column("reason")],
    [("digits-0001", "2", "finished"), ("digits-0002", "12", "waits for 2 CPUs of 4")],
    more="--format json",
)


def test_where_there_is_room_a_row_is_a_line() -> None:
    assert shown(JOBS, 60) == [
        "jobs",
        "job          blocks  reason",
        "──────────────────────────────────────────",
        "digits-0001       2  finished",
        "digits-0002      12  waits for 2 CPUs of 4",
    ]


def test_then_cells_fold_between_words() -> None:
    assert shown(JOBS, 34) == [
        "jobs",
        "job          blocks  reason",
        "──────────────────────────────────",
        "digits-0001       2  finished",
        "digits-0002      12  waits for 2",
        "                     CPUs of 4",
    ]


def test_then_the_optional_columns_go_and_a_line_names_them() -> None:
    assert shown(JOBS, 26) == [
        "jobs",
        "job          reason",
        "──────────────────────────",
        "digits-0001  finished",
        "digits-0002  waits for 2",
        "             CPUs of 4",
        "not shown here: blocks;",
        "see --format json",
    ]


def test_a_table_with_a_key_is_divided_before_its_cells_are() -> None:
    columns = [Column("K", right=True, key=True), *(Column(f"side{i}") for i in range(6))]
    table = TextTable("", columns, [["1", *(f"{i}.00x" for i in range(6))]])
    assert shown(table, 24) == [
        "K  side0  side1  side2",
        "──────────────────────",
        "1  0.00x  1.00x  2.00x",
        "",
        "K  side3  side4  side5",
        "──────────────────────",
        "1  3.00x  4.00x  5.00x",
    ]


def test_the_last_form_is_a_block_of_lines_for_each_row() -> None:
    assert shown(JOBS, 16) == [
        "jobs",
        "job: digits-0001",
        "  blocks: 2",
        "  reason:",
        "    finished",
        "",
        "job: digits-0002",
        "  blocks: 12",
        "  reason: waits",
        "    for 2 CPUs",
        "    of 4",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_can_neither_fail_nor_command_a_terminal(encoding: str) -> None:
    table = TextTable(
        "Größe", [Column("name")], [["\x1b[31mred \udce9\u202e ± [bold]x[/bold] :smile:"]]
    )
    (line,) = shown(table, 80, encoding)[-1:]
    assert line.startswith("\\x1b[31mred \\udce9\\u202e ")
    assert line.endswith("[bold]x[/bold] :smile:")
    assert ("+-" in line) == (encoding == "ascii")
