"""The HTML report of a comparison: one file with everything in it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dfa_speedup.results.headline import headline

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
code { background: #f3f3f3; padding: .1em .3em }
img { max-width: 100% }
.headline { font-size: 1.25em }
"""


def write_page(
    path: Path,
    found: Mapping[str, Any],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    pictures: Sequence[Path],
) -> None:
    """Write the report: the command, the machine, the table, the pictures.

    columns, cells: the table as the terminal shows it.
    """
    machine = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
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
        f"<table><tr>{head}</tr>{body}</table>{shown}",
        encoding="utf-8",
    )
