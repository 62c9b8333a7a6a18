"""The commands that the documents show are understood, and their jobs can run.

`make endurance` runs them: test_whole_pages.py.
"""

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import own_imports
from support.documents import DOCUMENTS, EXPERIMENTS, RESULTS, ROOT, Command, commands
from support.pages import IN_A_CHECKOUT, NOT_HERE, as_its_reader, name_of

LOGS = (*RESULTS, EXPERIMENTS)  # the jobs of their comparisons are made by test_results.py
EVERYWHERE = ("cd", "chmod", "export", "mkdir", "pip", "python", "python3")
OF_THE_CHECKOUT = re.compile(r"(?:benchmarks|deploy|docs|tests)/[\w./-]+")


@pytest.fixture
def in_a_checkout(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    as_its_reader(tmp_path, request.getfixturevalue("document"))
    monkeypatch.chdir(tmp_path)
    with own_imports(ROOT / "docs"), own_imports(tmp_path):
        yield


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_is_understood_and_its_job_can_run(
    document: Path, in_a_checkout: None, all_data: Path
) -> None:
    made = set[Path]()
    for words in commands(document, "errorcast"):
        command = Command.parse(words)
        assert made.issuperset(command.reads_runs), f"{shlex.join(words)}: none has made its run"
        if not (document in LOGS and command.verb == "compare"):
            command.jobs(data_dir=str(all_data))
        made.add(command.given.get("run_dir"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_program_and_file_is_there(document: Path) -> None:
    for words in commands(document):
        program = words[0]
        known = program in (*EVERYWHERE, *NOT_HERE, "errorcast", "make")
        assert known or (ROOT / program).exists() or shutil.which(program), program
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), shlex.join(words)
        for word in words:
            path = word.partition(":")[0]
            if OF_THE_CHECKOUT.fullmatch(path):
                assert (ROOT / path).exists(), shlex.join(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_makes_targets_are_there(document: Path) -> None:
    targets = {tuple(words[1:]) for words in commands(document, "make")}
    if targets:
        wanted = sorted({word for words in targets for word in words})
        asked = ["make", "--dry-run", *wanted]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_a_checkout_has_is_there() -> None:
    assert all((ROOT / name).is_dir() for name in IN_A_CHECKOUT)
