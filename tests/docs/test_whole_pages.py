"""A reader who follows a page from its top to its end: every block of it runs, in its order."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.command_line import own_imports
from support.documents import ROOT, asks_a_service
from support.pages import NOT_HERE, as_in_a_checkout, followed, name_of, save, takes_hours
from support.shortened import BOARD, shortened
from support.shown_blocks import ShownBlock, in_line, shown_blocks

OTHER_MACHINES = re.compile(r"\b(?:10\.0\.0\.\d+|fd00::)")  # addresses that the pages use
pytestmark = [pytest.mark.endurance, pytest.mark.timeout(5400)]


class Reader:
    """Runs blocks one after another, in one shell and in one Python namespace.

    folder: where the reader begins. short: the commands get options that make them short.
    """

    def __init__(self, folder: Path, state: Path, short: bool) -> None:
        self.folder, self._state, self._short = folder, state, short
        self._names: dict[str, Any] = {"__name__": "__main__"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        (state / "exports").write_text(f"export PATH='{path}'\n", encoding="utf-8")

    def follow(self, block: ShownBlock) -> None:
        """Run a block, or save it. Raises AssertionError, or what its Python raises."""
        save(block, self.folder)
        match block.language:
            case "sh":
                self._shell(block.code)
            case "python" if not block.saved_as:
                exec(compile(block.code, f"line {block.line}", "exec"), self._names)  # noqa: S102
            case "yaml" if not block.saved_as:
                self._job(block)

    def _shell(self, code: str) -> None:
        changed = shortened if self._short else _in_minutes
        lines = "\n".join(
            changed(text)
            for line in code.replace("\\\n", " ").splitlines()
            if (text := _possible(line))
        )
        after = f"export -p > {self._state}/exports; pwd > {self._state}/folder"
        script = f". {self._state}/exports\nset -eo pipefail\n{lines}\n{after}\n"
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = shell.communicate(timeout=5000)
        finally:
            with suppress(ProcessLookupError):  # what it started ends with it
                os.killpg(shell.pid, signal.SIGKILL)
        assert shell.returncode == 0, f"{lines}:\n{said}"
        self.folder = Path((self._state / "folder").read_text(encoding="utf-8").strip())
        os.chdir(self.folder)

    def _job(self, block: ShownBlock) -> None:
        """Train a job that is shown for one epoch, if it is a whole one for this machine."""
        job = yaml.safe_load(block.code)
        if "task" in job and not job.get("resources", {}).get("gpus"):
            shown = self._state / f"line-{block.line}.yaml"
            shown.write_text(block.code, encoding="utf-8")
            self._shell(f"errorcast train {shown} --epochs 1")


def _possible(line: str) -> str:
    """Return a line as it runs here; empty if it cannot."""
    each = list(in_line(line))
    if any(words[0] in NOT_HERE for words in each):
        return ""
    if re.search(r"gpus=0*[.1-9]", line) and not torch.cuda.is_available():
        return ""
    if OTHER_MACHINES.search(line):
        return ""
    if any(words[0] == "errorcast" and asks_a_service(words) for words in each):
        return ""
    if any("benchmarks.graphs" in words for words in each) and not torch.cuda.is_available():
        return ""
    if any(words[0] == "python" and "pytest" in words for words in each):
        return ""  # a test of its own
    return line


def _in_minutes(line: str) -> str:
    """Return a line that trains Fashion-MNIST for an epoch; test_learning has the real bar."""
    trains = any("fashion-mnist" in words for words in in_line(line))
    return f"{line} --epochs 1" if trains else line


@pytest.mark.parametrize("document", followed(), ids=name_of)
def test_every_block_runs_in_its_order(
    document: Path, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, state = tmp_path / "reader", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    as_in_a_checkout(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")  # where a reader starts Python
    short = takes_hours(document)
    if short:
        shutil.copytree(ROOT / "docs" / "leaderboard", folder / BOARD)
    reader = Reader(folder, state, short)
    with own_imports(folder):
        for block in shown_blocks(document):
            reader.follow(block)
