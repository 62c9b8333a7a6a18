"""The Python that the documents show compiles, imports what there is, and equals the examples."""

import ast
import importlib
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import own_imports
from support.documents import DOCUMENTS, README, ROOT, blocks
from support.pages import as_its_reader, name_of

EXAMPLES = ROOT / "docs" / "examples"
SHOWN_WHOLE = {"docs/tutorials/own-task.md": "mytask", "docs/how-to/callbacks.md": "callbacks"}


def imported(code: str) -> Iterator[tuple[str, str]]:
    """Yield the modules that code imports, each with a name that it takes from it, or without."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_code_compiles_and_its_imports_are_there(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_its_reader(tmp_path, document)
    with own_imports(tmp_path):
        monkeypatch.syspath_prepend(tmp_path)
        for code in blocks(document, "python"):
            compile(code, str(document), "exec")
            for module, name in imported(code):
                found = importlib.import_module(module)
                assert not name or hasattr(found, name), f"{module} has no {name}"


def test_the_readmes_python_works(
    a_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for code in blocks(README, "python"):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102
        assert "accuracy" in capfd.readouterr().out


def test_the_plain_loop_learns(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "plain_loop.py"))
    assert float(capsys.readouterr().out.split()[-1]) > 0.95


@pytest.mark.parametrize(("page", "name"), SHOWN_WHOLE.items())
def test_the_example_is_the_one_shown(page: str, name: str) -> None:
    example = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert example in blocks(ROOT / page, "python")
