"""Paths in jobs: `~`, relative ones, and a task's file that another command must find again."""

from pathlib import Path
from typing import Any

import pytest
from support.command_line import run_errorcast
from support.in_process import train_here
from support.relative_task import project

from coordinator.inspection.saved_run import open_run
from coordinator.job.places import same_task
from coordinator.job.resolve import resolve
from coordinator.job.spec import parse
from dfa_core import JobError


def test_a_run_finds_its_own_task_and_files_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other folder lies another task of that name, whose weights would fit."""
    home = project(tmp_path / "home", "right")
    elsewhere = project(tmp_path / "elsewhere", "wrong")
    monkeypatch.chdir(home)
    run = train_here("mytask.py:make", tmp_path / "run", method="shallow")
    assert run.job.spec.task == f"{home}/mytask.py:make"
    assert run.job.spec.working_dir == str(home)
    for folder in (elsewhere, tmp_path):
        monkeypatch.chdir(folder)
        saved = open_run(tmp_path / "run")
        assert saved.scores() == pytest.approx(run.metrics)
        assert len(saved.alignment()) == 1
        assert saved.hidden()[0].shape == (32, 8)
        assert Path.cwd() == folder
    monkeypatch.chdir(elsewhere)
    with pytest.raises(JobError, match="holds another job: its task is"):
        train_here("mytask.py:make", tmp_path / "run", resume=True, method="shallow")


def test_a_run_that_was_moved_with_its_project_goes_on_when_its_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = project(tmp_path / "home", "right")
    monkeypatch.chdir(home)
    train_here("mytask.py:make", home / "run", method="shallow")
    moved = home.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    done = run_errorcast("evaluate", "run")
    assert (done.code, f"the task's file {home}/mytask.py is gone" in done.err) == (2, True)
    assert "errorcast train NEW/PLACE/mytask.py:make --run-dir run --resume" in done.err
    settings = {"method": "shallow", "epochs": 2}
    run = train_here("mytask.py:make", moved / "run", resume=True, **settings)
    assert run.job.spec.task == f"{moved}/mytask.py:make"
    assert run_errorcast("evaluate", "run").code == 0


@pytest.mark.parametrize(
    ("there", "asked", "same"),
    [
        ("digits", "digits", True),
        ("digits", "mnist", False),
        ("a.py:f", "{}/a.py:f", True),  # of an older version
        ("sub/a.py:f", "{}/a.py:f", True),
        ("a.py:f", "{}/a.py:g", False),
        ("a.py:f", "{}/b.py:f", False),
        ("{}/gone/a.py:f", "{}/a.py:f", True),  # moved, or from another machine
        ("{}/a.py:f", "{}/other/a.py:f", False),
        ("{}/a.py:f", "{}/link/a.py:f", True),
        ("{}/a.py:f", "{}/copy.py:f", True),
        ("{}/a.py:f", "{}/copy.py:g", False),
        ("{}/a.py:f", "digits", False),
    ],
)
def test_which_tasks_are_the_same(tmp_path: Path, there: str, asked: str, same: bool) -> None:
    (tmp_path / "other").mkdir()
    for file, text in {"a.py": "a", "b.py": "b", "other/a.py": "c", "copy.py": "a"}.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path)
    assert same_task(there.format(tmp_path), asked.format(tmp_path)) is same


def test_home_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places: dict[str, Any] = {"data_dir": "~/data", "checkpoint": {"path": "~/store"}}
    spec = parse({"task": "~/mytask.py:make", **places})
    assert spec.task == f"{tmp_path}/mytask.py:make"
    assert (spec.data_dir, spec.checkpoint.path) == (f"{tmp_path}/data", f"{tmp_path}/store")
    assert parse({"checkpoint": {"path": "s3://a/~b"}}).checkpoint.path == "s3://a/~b"
    with pytest.raises(JobError, match="data_dir: ~nobody-of-that-name/x: "):
        parse({"data_dir": "~nobody-of-that-name/x"})


def test_relative_paths_are_those_of_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = resolve("digits", {"data_dir": "data", "checkpoint": {"path": "store"}}).spec
    assert (spec.data_dir, spec.checkpoint.path) == (f"{tmp_path}/data", f"{tmp_path}/store")
    assert spec.working_dir == ""  # an installed task has no files of its own
    url = {"checkpoint": {"path": "s3://bucket/run"}}
    assert resolve("digits", url).spec.checkpoint.path == "s3://bucket/run"


@pytest.mark.parametrize("value", [2024, 1.0, True, ["a"]])
def test_a_path_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(JobError, match="data_dir: .* is not a text; put it in quotes"):
        parse({"data_dir": value})
