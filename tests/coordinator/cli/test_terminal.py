"""A terminal that knows ASCII alone, and files named like our packages on PYTHONPATH."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from errorcast.v1.job_pb2 import Job
from rich.console import Console

import coordinator
from coordinator.cli.connection import print_json
from coordinator.cli.streams import accept_all_text, keep_still_in_notebooks
from coordinator.cli.terminal import Terminal
from coordinator.cli.viewer import TerminalViewer
from coordinator.experiments.method_comparison import Row
from coordinator.experiments.tables import method_table
from coordinator.training.events import Evaluation, Progress


class Screen(io.StringIO):
    """A terminal that keeps what it shows."""

    def isatty(self) -> bool:
        return True


OURS = ("coordinator", "dfa_core", "dfa_speedup", "dfa_tasks", "workers")


def shown_in(encoding: str, monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> str:
    """Return what a terminal of this encoding shows."""
    shown = io.BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
        accept_all_text()
        show()
        sys.stdout.flush()
        return shown.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_tables_and_any_name_can_be_shown(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("dfa", [{"loss": 0.5}, {"loss": 0.7}], [1, 1], [1.0, 1.0], [], [])
    table = method_table([row], "Größe 大, a file \udce9 that is no UTF-8")
    found = shown_in(encoding, monkeypatch, lambda: Console(width=80).print(table))
    assert f"0.6000 {'+-' if encoding == 'ascii' else '±'} 0.1414" in found
    assert "that is no UTF-8" in found
    if encoding == "ascii":
        assert "Gr\\xf6\\xdfe \\u5927" in found


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_stays_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(id="größe-0001", reason="大 ±")
    found = shown_in(encoding, monkeypatch, lambda: print_json(job))
    assert json.loads(found) == {"id": "größe-0001", "reason": "大 ±"}


@pytest.mark.blocks
def test_the_real_command_on_ascii(tmp_path: Path) -> None:
    done = command(tmp_path, "tasks", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    done = command(tmp_path, "train", "größe", PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, "unknown 'gr\\xf6\\xdfe'" in done.stderr) == (2, True)


def command(
    folder: Path, *arguments: str, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    root = Path(coordinator.__file__).parents[1]
    path = ":".join(filter(None, [before, str(root), str(root / "proto")]))
    return subprocess.run(
        [sys.executable, "-m", "errorcast", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


@pytest.mark.endurance
@pytest.mark.parametrize("hidden", [OURS, ("workers",)])
def test_files_named_like_our_packages_on_the_path_do_not_hide_them(
    tmp_path: Path, hidden: tuple[str, ...]
) -> None:
    """Neither here nor in Ray's processes, which inherit PYTHONPATH."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in hidden:
        (mine / f"{name}.py").write_text("raise RuntimeError('the wrong file')\n")
    (mine / "helper.py").write_text("")
    quick = ("--epochs", "1", "--blocks", "1", "--set", "options.width=16", "--run-dir", "run")
    done = command(tmp_path, "train", "digits", *quick, before=str(mine))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize("in_a_cell", [True, False])
def test_a_bar_moves_but_not_in_a_cell(in_a_cell: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython gives `!errorcast` a terminal, and asks for colours."""
    monkeypatch.setenv("TTY_INTERACTIVE", "")
    del os.environ["TTY_INTERACTIVE"]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    if in_a_cell:
        monkeypatch.setenv("JPY_PARENT_PID", "1")
    keep_still_in_notebooks()
    shown = Screen()
    monkeypatch.setattr(sys, "stdout", shown)
    with TerminalViewer(Terminal()) as viewer:
        viewer.progress(Progress(1, 10, 64, 1.0, 0.1, []))
        viewer.event(Evaluation(1, 1, 2, "test", {"loss": 0.5}))
    assert ("samples/s" in shown.getvalue()) is not in_a_cell
    assert "test loss" in shown.getvalue()
