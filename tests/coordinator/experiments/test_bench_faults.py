"""A comparison loses nothing that it has measured: to kills, to Ctrl-C, to a later comparison."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.command_line import started_errorcast
from support.ray_processes import ray_processes

SMALL = ("--width", "48", "--layers", "3", "--batch-size", "32", "--rounds", "1", "--steps", "1")
BENCH = ("bench", *SMALL, "--microbatches", "2", "--out", "out")


def rows_when(folder: Path, count: int, run: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return the rows of bench.json, once so many are measured."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        rows = measured(folder) if (folder / "bench.json").exists() else []
        if len(rows) >= count:
            return rows
        time.sleep(0.02)  # a file does not notify of its growth
    pytest.fail(f"not {count} rows in {folder}")


def measured(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return [row for row in found["rows"] if row["step_ms"] is not None]


@pytest.mark.timeout(300)
@pytest.mark.ray
def test_kills_and_ctrl_c_cost_nothing_that_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started_errorcast(*BENCH, cwd=tmp_path) as run:
        rows_when(out, 1, run)
        os.kill(ray_processes("ray::BenchWorker", run.pid)[0], signal.SIGKILL)
        before = rows_when(out, 5, run)
        run.send_signal(signal.SIGINT)
        shown, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert [line.split()[0] for line in shown.splitlines() if "1.00x" in line] == ["errorcast"]
    assert "--resume" in shown
    tried = {row["label"]: row["step_ms"] for row in before}
    assert {row["label"]: row["step_ms"] for row in measured(out)}.items() >= tried.items()

    with started_errorcast(*BENCH, "--resume", cwd=tmp_path) as run:
        rows_when(out, 8, run)
        os.kill(ray_processes("ray::Rank0", run.pid)[0], signal.SIGKILL)
        shown, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    found = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert found["summary"]["stopped"] is None
    assert [row["label"] for row in found["rows"] if row["failed"]] == []
    refused = {row["label"]: row["reason"] for row in found["rows"] if row["reason"]}
    assert refused == {"DualPipeV x2": "needs at least 4 microbatches"}
    kept = json.loads((out / "measured.json").read_text(encoding="utf-8"))["measurements"]["sides"]
    assert len(kept) == len(found["rows"])

    other = [*BENCH, "--resume", "--width", "32"]
    with started_errorcast(*other, cwd=tmp_path) as run:
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "holds measurements of another job" in errors
    assert errors.count("\n") == 1
