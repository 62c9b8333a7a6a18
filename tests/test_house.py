"""The house stays pleasant to live in: short files, small folders, tests that mirror the code."""

import subprocess
from collections import Counter
from pathlib import Path, PurePath

ROOT = Path(__file__).parents[1]
PACKAGES = ("coordinator", "dfa_core", "dfa_speedup", "dfa_tasks", "workers")
MOST_LINES, MOST_FILES = 350, 20


def sources(*folders: str) -> list[PurePath]:
    """Return the Python files that git knows below these folders, without generated ones."""
    asked = ["git", "ls-files", *(f"{folder}/*.py" for folder in folders)]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [PurePath(name) for name in listed.splitlines() if "_pb2" not in name]


def test_no_file_is_too_long_to_read() -> None:
    files = sources(*PACKAGES, "benchmarks", "docs/docsite")
    lines = {str(f): len((ROOT / f).read_text(encoding="utf-8").splitlines()) for f in files}
    assert files
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_no_folder_holds_too_many_files() -> None:
    counts = Counter(str(file.parent) for file in sources(*PACKAGES, "benchmarks", "docs/docsite"))
    del counts["coordinator/cli"]  # one file a verb
    assert {name: n for name, n in counts.items() if n > MOST_FILES} == {}


def test_tests_mirror_the_rooms() -> None:
    rooms = {file.parent for file in sources(*PACKAGES, "benchmarks")}
    tested = {PurePath(*file.parent.parts[1:]) for file in sources("tests")}
    strangers = {str(folder) for folder in tested - rooms}
    assert strangers <= {".", "deploy", "docs", "proto", "support"}


def test_each_test_file_has_a_name_of_its_own() -> None:
    """Pytest imports them by this name alone: of two with one name, the second is not run."""
    names = Counter(file.name for file in sources("tests") if file.name.startswith("test_"))
    assert {name: n for name, n in names.items() if n > 1} == {}
