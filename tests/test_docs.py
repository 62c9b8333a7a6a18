"""What the documents show is true: commands run, code runs, links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli.main import ON_A_SERVICE

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = ROOT / "README.md"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def commands(path: Path) -> list[list[str]]:
    lines = "\n".join(blocks(path, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture
def as_in_a_checkout(tmp_path: Path) -> Path:
    """A folder from which the paths that the documents name can be reached."""
    for name in ("docs", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


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


@pytest.mark.host
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["README.md", "docs/tasks.md", "docs/bench.md", "docs/faults.md"])
def test_every_command_runs_in_its_order(
    name: str, as_in_a_checkout: Path, real_data: Path
) -> None:
    # what asks a service is run by tests/coordinator/service/api/test_documents.py
    asking = {verb.__name__ for verb in ON_A_SERVICE}
    here = [words for words in commands(ROOT / name) if words[0] == "errorcast"]
    shown = [words for words in here if words[1] not in asking]
    assert shown
    if name != README.name:
        shown = [words for words in shown if words not in commands(README)]
    for words in shown:
        # the bar that the whole command reaches is test_learning's
        shorter = ["--epochs", "1"] if "fashion-mnist" in words else []
        run([*words, *shorter], as_in_a_checkout)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_makes_targets_are_there(document: Path) -> None:
    for words in commands(document):
        if words[0] == "make":
            run(["make", "--dry-run", *words[1:]], ROOT)


@pytest.mark.host
def test_the_readmes_python_runs(as_in_a_checkout: Path) -> None:
    for code in blocks(README, "python"):
        assert "accuracy" in run([sys.executable, "-c", code], as_in_a_checkout)


def test_the_plain_loop_learns(as_in_a_checkout: Path) -> None:
    shown = run([sys.executable, "docs/examples/plain_loop.py"], as_in_a_checkout)
    assert float(shown.split()[-1]) > 0.95


def test_the_example_task_is_the_one_shown() -> None:
    example = (ROOT / "docs" / "examples" / "mytask.py").read_text(encoding="utf-8")
    assert blocks(ROOT / "docs" / "tasks.md", "python") == [example]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
