"""The pages of docs/reference/ that are made from the code are current and complete."""

import re
from pathlib import Path

import pytest
from docsite.__main__ import GENERATED, main
from docsite.cli_page import VARIABLES
from docsite.proto_comments import comments_of
from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.descriptor import Descriptor
from support.command_line import run_errorcast
from support.documents import ROOT

from coordinator.job.spec import fields_of

PACKAGES = ("coordinator", "dfa_core", "dfa_tasks", "dfa_speedup", "workers", "deploy")
FOR_TESTS = ("ERRORCAST_POISON",)
CLI, JOB = (ROOT / "docs" / "reference" / name for name in ("cli.md", "job.md"))


@pytest.mark.parametrize("page", GENERATED, ids=lambda path: path.name)
def test_the_page_is_current(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == GENERATED[page](), "run make reference"


def test_an_old_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("docsite.__main__.ROOT", tmp_path)
    old, new = tmp_path / "old.md", tmp_path / "new" / "page.md"
    monkeypatch.setattr("docsite.__main__.GENERATED", {old: lambda: "now", new: lambda: "new"})
    old.write_text("then", encoding="utf-8")
    assert main(only_check=True) == 1
    assert capsys.readouterr().err.splitlines() == [
        "old.md is not current: run make reference",
        "new/page.md is not current: run make reference",
    ]
    assert old.read_text(encoding="utf-8") == "then"
    assert main(only_check=False) == 0
    assert (old.read_text(encoding="utf-8"), new.read_text(encoding="utf-8")) == ("now", "new")
    assert main(only_check=True) == 0


def test_every_option_that_help_shows_is_on_the_page() -> None:
    text = CLI.read_text(encoding="utf-8")
    for part in text.split("\n## `errorcast ")[1:]:
        name = part.partition("`")[0]
        shown = run_errorcast(name, "--help", COLUMNS="200").out
        options = set(re.findall(r"^│ [ *]* *(--[a-z-]+)", shown, re.M)) - {"--help"}
        assert options == set(re.findall(r"^\| `(--[a-z-]+)", part, re.M)), name


def test_every_environment_variable_is_on_the_page() -> None:
    read = {
        name
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r"ERRORCAST_[A-Z_]*[A-Z]", file.read_text(encoding="utf-8"))
    }
    assert read - {*FOR_TESTS} - {"ERRORCAST_TLS"} <= VARIABLES.keys()


def test_every_field_and_value_of_a_job_has_a_description() -> None:
    comments, text = comments_of("errorcast/v1/job.proto"), JOB.read_text(encoding="utf-8")

    def check(message: Descriptor, path: str) -> None:
        for field in fields_of(message):
            assert comments[f"{message.name}.{field.name}"], field.full_name
            enum, inner = field.enum_type, field.message_type
            if inner is not None and inner.full_name.startswith("errorcast."):
                check(inner, f"{field.name}.")
            else:
                assert f"\n| `{path}{field.name}` | " in text
            for value in enum.values[1:] if enum is not None else ():
                assert comments[f"{enum.name}.{value.name}"], value.name

    check(JobSpec.DESCRIPTOR, "")
