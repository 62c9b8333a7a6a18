"""Tables of predictions, on wide and on narrow terminals."""

import io

import pytest
from rich.console import Console

from coordinator.experiments.tables import prediction_table
from dfa_speedup.peers import PIPELINES
from dfa_speedup.simulation.scaling import Prediction

ROWS: list[tuple[int, int, Prediction | str]] = [
    (1, 1, Prediction(1, 1, "block", 2, 1.234, 0.98, dict.fromkeys(PIPELINES, None), 1234.0, 5e8)),
    (
        1024,
        2,
        Prediction(
            1024, 2, "coordinator", 2048, 0.1, 0.98, dict.fromkeys(PIPELINES, 1.5), 12.0, 5e8
        ),
    ),
    (2048, 1, "the model has 1024 layers"),
]


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (160, 1)])
def test_no_width_from_80_columns_on_breaks_a_word(width: int, tables: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(prediction_table(ROWS))
    shown = console.export_text()
    assert "…" not in shown
    words = shown.split()
    for name in PIPELINES:
        assert set(name.split()) <= {*words}
    assert words.count("1.50x") == len(PIPELINES)
    assert {"1,234.00", "98.0%", "1,234"} <= {*words}
    assert words.count("K") == tables + 2  # in the title and in the note
    assert "K 2048, R 1: the model has 1024 layers" in shown
