"""The HTML report of a comparison: one file with everything in it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dfa_speedup.results.headline import headline

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1300px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, td.reason { text-align: left }
td { white-space: nowrap }
td.reason { color: #777 }
code { background: #f3f3f3; padding: .1em .3em }
img { max-width: 100% }
.headline { font-size: 1.25em }
"""


def write_page(
    path: Path,
    found: Mapping[str, Any],
    columns: Sequence[str],
    best: Sequence[Sequence[str]],
    every: Sequence[Sequence[str]],
    pictures: Sequence[Path],
) -> None:
    """Write the report: the result, the command, the machine, the table, the pictures.

    columns: of both tables; an empty one is not shown. best: each side at its best. every: all
    that was tried.
    """
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    shown = "".join(
        f'<p><img alt="{escape(p.stem)}" '
        f'src="data:image/png;base64,{b64encode(p.read_bytes()).decode()}"></p>'
        for p in pictures
    )
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>errorcast bench</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>errorcast against backpropagation: {escape(found['task'])}</h1>"
        f"<p class=headline>{escape(headline(found))}</p>"
        f"<p><code>{escape(found['command'])}</code></p>"
        f"<p>{escape(machine['cpu'])}, {machine['cores']} cores, {escape(machine['system'])}, "
        f"Python {machine['python']}, {escape(versions)}</p>"
        f"{_table(columns, best)}{shown}"
        f"<details><summary>All that was tried</summary>{_table(columns, every)}</details>",
        encoding="utf-8",
    )


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    measured = [row for row in cells if any(row[3:])]
    used = [i for i in range(len(columns)) if i < 3 or any(row[i] for row in measured)]
    head = "".join(f"<th>{escape(columns[i])}</th>" for i in used)
    rows = []
    for row in cells:
        if any(row[3:]):
            rows.append("".join(f"<td>{escape(row[i])}</td>" for i in used))
        else:  # why it could not run
            start = "".join(f"<td>{escape(cell)}</td>" for cell in row[:2])
            rows.append(f"{start}<td class=reason colspan={len(used) - 2}>{escape(row[2])}</td>")
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
