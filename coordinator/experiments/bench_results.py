"""The results of a comparison: bench.json, and the page, pictures and timeline made from it."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from coordinator.experiments.bench_folder import Record
from coordinator.experiments.tables import bench_cells
from dfa_speedup.measured import Measurements
from dfa_speedup.results.markdown import write_markdown
from dfa_speedup.results.page import write_page
from dfa_speedup.results.peak import mfu
from dfa_speedup.results.pictures import draw_speedups, draw_timelines
from dfa_speedup.results.report import rows, summary
from dfa_speedup.results.timeline import chrome_trace, compared_spans
from dfa_speedup.workload import Workload


def results(
    task: str, command: str, workload: Workload, record: Record, stopped: str | None
) -> dict[str, Any]:
    """Return what bench.json holds, as far as it was measured; stopped: why it ended early."""
    gpu = next(iter(record.machine["gpus"] or ()), None)
    found = {
        "format": 1,
        "task": task,
        "command": command,
        "machine": record.machine,
        "summary": summary(workload, record.measurements) | {"stopped": stopped},
        "rows": [
            row | {"mfu": mfu(row["gflops_per_s_a_worker"], gpu, workload.rule.precision)}
            for row in rows(workload, record.measurements)
        ],
    }
    race = record.race
    return found if race is None else found | {"race": [side.as_row() for side in race.sides]}


def write_views(out: Path, found: Mapping[str, Any], measured: Measurements) -> None:
    """Write timeline.json, both pictures and report.html. Raises OSError.

    found: what bench.json holds.
    """
    best = [row for row in found["rows"] if row["best"]]
    spans = compared_spans(measured)
    pictures = [out / "speedup.png", out / "timeline.png"]
    draw_speedups(best, pictures[0], f"Speedup of errorcast: {found['task']}")
    draw_timelines(spans, pictures[1])
    (out / "timeline.json").write_text(json.dumps(chrome_trace(spans)), encoding="utf-8")
    columns, shown = bench_cells(found["rows"], every=False)
    _, tried = bench_cells(found["rows"], every=True)
    write_page(out / "report.html", found, columns, shown, tried, pictures)


def write_report_md(out: Path, found: Mapping[str, Any]) -> Path:
    """Write the results of each side at its best as [model]_[hardware]_[date].md; return its path.

    Raises OSError.
    """
    columns, cells = bench_cells(found["rows"], every=False)
    return write_markdown(out, found, columns, cells, date.today())  # the user's
