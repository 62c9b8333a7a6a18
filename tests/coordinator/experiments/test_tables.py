"""Tables of predictions and comparisons, on wide and on narrow terminals."""

import io
from typing import Any

import pytest
from rich.console import Console

from coordinator.experiments.tables import bench_cells, bench_table, prediction_table
from dfa_speedup.peers import EAGER_PIPELINES
from dfa_speedup.simulation.scaling import Prediction
from dfa_speedup.simulation.shape import Shape

SMALL, LARGE = Shape(1, 1, "block"), Shape(1024, 2, "coordinator")
NONE, SAME = dict.fromkeys(EAGER_PIPELINES, None), dict.fromkeys(EAGER_PIPELINES, 1.5)
ROWS: list[tuple[str, Prediction | str]] = [
    ("K 1, R 1", Prediction(SMALL, 2, 1.234, 0.98, "block 1 + head", NONE, 1234.0, 5e8)),
    ("K 1024, R 2", Prediction(LARGE, 2048, 0.1, 0.98, "waits", SAME, 12.0, 5e8)),
    ("K 2048, R 1", "the model has 1024 layers"),
]


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (160, 1)])
def test_no_width_from_80_columns_on_breaks_a_word(width: int, tables: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(prediction_table(ROWS))
    text = console.export_text()
    assert "…" not in text
    words = text.split()
    for name in EAGER_PIPELINES:
        assert set(name.split()) <= {*words}
    assert words.count("1.50x") == len(EAGER_PIPELINES)
    assert {"1,234.00", "98.0%", "1,234"} <= {*words}
    assert words.count("K") == tables + 1  # and in the note
    assert words.count("K:") == 1  # in the title
    assert "K 2048, R 1: the model has 1024 layers" in text


LABELS = ("errorcast", "interleaved zero bubble x4", "compiled interleaved 1F1B x4")
FIGURES = {
    "step_ms": 1234.5,
    "step_ms_low": 1200.0,
    "step_ms_high": 1300.0,
    "samples_per_s": 1000.0,
    "samples_per_s_a_worker": 500.0,
    "gflops_per_s_a_worker": 12.0,
    "mfu": None,
    "predicted_ms": 1.0,
    "speedup": 1.4,
    "speedup_low": 1.3,
    "speedup_high": 1.5,
    "efficiency": 0.9,
    "bubble": 0.123,
    "bytes_per_step": 100,
    "peak_memory_mb": 1234.0,
}
SUMMARY = {"workers": 2, "batch_size": 512, "efficiency": 0.9, "efficiency_loaded": None}


def row(label: str, microbatches: int, reason: str | None, best: bool = False) -> dict[str, Any]:
    figures = dict.fromkeys(FIGURES) if reason else FIGURES
    side = {"schedule": label, "label": label, "microbatches": microbatches}
    return {**side, "reason": reason, "failed": None, "best": best, **figures}


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of a comparison on a terminal of 80 columns."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(bench_table({"task": "mlp", "summary": SUMMARY, "rows": rows}, every=False))
    return console.export_text()


def test_a_comparison_is_one_table_of_80_columns() -> None:
    lines = shown([row(label, 8, None, best=True) for label in LABELS]).splitlines()
    assert max(map(len, lines)) <= 80
    for label in LABELS:  # all of a side in one line
        (line,) = (line for line in lines if line.strip().startswith(label))
        figures = ["8", "1,234", "1200-1300", "1.40x", "1.30-1.50", "12.3%", "1,234"]
        assert line.strip().removeprefix(label).split() == figures


def test_what_a_side_cannot_do_is_said_once() -> None:
    rows = [
        row("errorcast", 2, None, best=True),
        row("errorcast", 4, None),
        row("ZBV", 2, "needs a loss a sample"),
        row("ZBV", 4, "needs a loss a sample"),
        row("DualPipeV", 2, "needs at least 4 microbatches"),
        row("DualPipeV", 4, None, best=True),
    ]
    first = [cells[:2] for cells in bench_cells(rows, every=False)[1]]
    assert first == [["errorcast", "2"], ["ZBV", "2"], ["DualPipeV", "2"], ["DualPipeV", "4"]]
    assert len(bench_cells(rows, every=True)[1]) == 5


def test_refusals_stand_below_the_table() -> None:
    why = "needs 4 stages, the model has 2 layers and a head"
    found = shown([row("DDP", 2, None, best=True), row("ZBV", 2, why), row("ZBV", 4, why)])
    assert f"ZBV, M 2: {why}" in found
    assert found.count("needs 4 stages") == 1
    assert "…" not in found
