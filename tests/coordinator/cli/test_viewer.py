"""Tables of a comparison."""

import io
from typing import Any

from rich.console import Console

from coordinator.experiments.tables import bench_cells, bench_table


def row(schedule: str, microbatches: int, reason: str | None, best: bool = False) -> dict[str, Any]:
    figures = ("step_ms", "step_ms_low", "step_ms_high", "predicted_ms", "samples_per_s", "speedup")
    more = ("efficiency", "bubble", "bytes_per_step", "peak_memory_mb")
    values = dict.fromkeys((*figures, *more), None if reason else 1.0)
    known = {"schedule": schedule, "label": schedule, "microbatches": microbatches}
    return {**known, "reason": reason, "best": best, **values}


def test_what_a_side_cannot_do_is_said_once() -> None:
    rows = [
        row("errorcast", 2, None, best=True),
        row("errorcast", 4, None),
        row("ZBV", 2, "needs a loss a sample"),
        row("ZBV", 4, "needs a loss a sample"),
        row("DualPipeV", 2, "needs at least 4 microbatches"),
        row("DualPipeV", 4, None, best=True),
    ]
    shown = [cells[:2] for cells in bench_cells(rows, every=False)[1]]
    assert shown == [["errorcast", "2"], ["ZBV", "2"], ["DualPipeV", "2"], ["DualPipeV", "4"]]
    assert len(bench_cells(rows, every=True)[1]) == 5


def test_a_narrow_terminal_loses_no_name_and_prints_refusals_below() -> None:
    rows = [
        row("DistributedDataParallel", 2, None, best=True),
        row("ZBV zero bubble", 2, "needs 4 stages, the model has 2 layers and a head"),
        row("ZBV zero bubble", 4, "needs 4 stages, the model has 2 layers and a head"),
    ]
    sums = {"speedup_over_best_pipeline": 1.25, "best_pipeline": "1F1B", "workers": 2}
    summary = {**sums, "batch_size": 32, "efficiency": 0.74, "efficiency_loaded": None}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(bench_table({"task": "x", "rows": rows, "summary": summary}, every=False))
    shown = console.export_text()
    assert "ZBV zero bubble, M 2: needs 4 stages, the model has 2 layers and a head" in shown
    assert shown.count("needs 4 stages") == 1
    assert "…" not in shown
