"""Tables of predictions, on wide and on narrow terminals."""

import io

import pytest
from rich.console import Console

from coordinator.experiments.tables import prediction_table
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
    shown = console.export_text()
    assert "…" not in shown
    words = shown.split()
    for name in EAGER_PIPELINES:
        assert set(name.split()) <= {*words}
    assert words.count("1.50x") == len(EAGER_PIPELINES)
    assert {"1,234.00", "98.0%", "1,234"} <= {*words}
    assert words.count("K") == tables + 2  # in the title and in the note
    assert "K 2048, R 1: the model has 1024 layers" in shown
