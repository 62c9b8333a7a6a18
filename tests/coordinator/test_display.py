"""Tables of a comparison."""

from typing import Any

from coordinator.display import bench_cells


def row(schedule: str, microbatches: int, reason: str | None, best: bool = False) -> dict[str, Any]:
    figures = ("step_ms", "step_ms_low", "step_ms_high", "predicted_ms", "samples_per_s", "speedup")
    more = ("efficiency", "bubble", "bytes_per_step", "peak_memory_mb")
    values = dict.fromkeys((*figures, *more), None if reason else 1.0)
    known = {"schedule": schedule, "microbatches": microbatches, "reason": reason, "best": best}
    return {**known, **values}


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
