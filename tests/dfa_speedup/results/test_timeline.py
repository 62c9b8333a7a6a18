"""What is drawn and computed from spans."""

import json
from pathlib import Path

import pytest

from dfa_speedup.results.pictures import draw_speedups, draw_timelines
from dfa_speedup.results.timeline import chrome_trace
from dfa_speedup.spans import bubble
from workers.trace import Span

BLOCK = [
    Span("forward", 0, 0, 10.0, 11.0),
    Span("optimizer", 0, -1, 11.0, 12.0),
    Span("forward", 1, 0, 12.0, 13.0),
    Span("update", 1, 0, 14.0, 15.0),
    Span("optimizer", 1, -1, 15.0, 16.0),
]
HEAD = [Span("head", 0, 0, 11.0, 11.5), Span("head", 1, 0, 13.0, 13.5)]


def test_a_bubble_is_counted_between_optimizer_steps() -> None:
    assert bubble([BLOCK, HEAD]) == pytest.approx(1 / 4)  # idle from 13 to 14, of 12 to 16
    assert bubble([HEAD]) == 0


def test_the_trace_has_a_row_a_worker_with_its_waits_and_broadcasts() -> None:
    trace = json.loads(json.dumps(chrome_trace({"errorcast": [BLOCK, HEAD]})))
    events = trace["traceEvents"]
    names = [e["args"]["name"] for e in events if e["ph"] == "M"]
    assert names == ["errorcast", "block 1", "head"]
    of_block = [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == 0]
    assert ("wait", 3e6, 1e6) in of_block
    assert ("update", 4e6, 1e6) in of_block
    assert [name for name, _, _ in of_block].count("wait") == 1
    assert [e["ts"] for e in events if e["name"] == "broadcast"] == [1.5e6, 3.5e6]


def test_the_pictures_are_pictures(tmp_path: Path) -> None:
    rows = [
        {"label": "errorcast", "schedule": "errorcast", "microbatches": 2, "speedup": 1.0},
        {"label": "1F1B", "schedule": "1F1B", "microbatches": 4, "speedup": 1.9},
        {"label": "DualPipeV", "schedule": "DualPipeV", "microbatches": 2, "speedup": None},
    ]
    draw_speedups(rows, tmp_path / "bars.png", "title")
    draw_timelines({"errorcast": [BLOCK, HEAD], "1F1B": [BLOCK]}, tmp_path / "lines.png")
    for picture in tmp_path.iterdir():
        assert picture.read_bytes()[:4] == b"\x89PNG"
