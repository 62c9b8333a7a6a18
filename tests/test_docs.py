"""What the documents show is true: commands are understood, code runs, links lead somewhere.

`make test` parses every command and checks its job; `make endurance` runs them.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import own_imports
from support.documents import (
    DOCUMENTS,
    README,
    ROOT,
    Command,
    anchors,
    asks_a_service,
    blocks,
    commands,
)

EXECUTED = [
    "README.md",
    "docs/tasks.md",
    "docs/how-to/bench.md",
    "docs/how-to/leaderboard.md",
    "docs/faults.md",
    "docs/models.md",
    "docs/sweeps.md",
    "docs/trackers.md",
]


@pytest.fixture
def as_in_a_checkout(tmp_path: Path) -> Path:
    """A folder from which the paths that the documents name can be reached."""
    for name in ("docs", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def in_a_checkout(as_in_a_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(as_in_a_checkout)
    with own_imports(ROOT / "docs"), own_imports(as_in_a_checkout):
        yield


def run(words: list[str], folder: Path, seconds: int = 300) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_is_understood_and_its_job_can_run(
    document: Path, in_a_checkout: None, all_data: Path
) -> None:
    made = set[Path]()
    for words in commands(document, "errorcast"):
        command = Command.parse(words)
        assert made.issuperset(command.reads_runs), f"{shlex.join(words)}: none has made its run"
        command.jobs(data_dir=str(all_data))
        made.add(command.given.get("run_dir"))


@pytest.mark.endurance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EXECUTED)
def test_every_command_runs_in_its_order(
    name: str, as_in_a_checkout: Path, real_data: Path
) -> None:
    # what asks a service is run by tests/coordinator/service/api/test_documents.py
    shown = [words for words in commands(ROOT / name, "errorcast") if not asks_a_service(words)]
    assert shown
    if name != README.name:
        shown = [words for words in shown if words not in commands(README)]
    for words in shown:
        # the bar that the whole command reaches is test_learning's
        shorter = ["--epochs", "1"] if "fashion-mnist" in words else []
        run([*words, *shorter], as_in_a_checkout)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_makes_targets_are_there(document: Path) -> None:
    for words in commands(document, "make"):
        run(["make", "--dry-run", *words[1:]], ROOT)


def test_the_readmes_python_works(
    a_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for code in blocks(README, "python"):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102
        assert "accuracy" in capfd.readouterr().out


@pytest.mark.endurance
def test_the_readmes_python_runs(as_in_a_checkout: Path) -> None:
    for code in blocks(README, "python"):
        assert "accuracy" in run([sys.executable, "-c", code], as_in_a_checkout)


def test_the_plain_loop_learns(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "examples" / "plain_loop.py"))
    assert float(capsys.readouterr().out.split()[-1]) > 0.95


@pytest.mark.parametrize(("page", "name"), [("tasks", "mytask"), ("trackers", "callbacks")])
def test_the_example_is_the_one_shown(page: str, name: str) -> None:
    example = (ROOT / "docs" / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert blocks(ROOT / "docs" / f"{page}.md", "python") == [example]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text(encoding="utf-8"))
    for target, anchor in links:
        if "://" not in target:
            there = document.parent / target if target else document
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"
    for test in re.findall(r"`(tests/[^` ]+)`", document.read_text(encoding="utf-8")):
        assert (ROOT / test).exists(), test
