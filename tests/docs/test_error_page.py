"""docs/reference/errors.md explains messages that errorcast really has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.documents import ROOT

PAGE = ROOT / "docs" / "reference" / "errors.md"
PACKAGES = ("coordinator", "dfa_core", "dfa_tasks", "dfa_speedup", "workers")
_HEADING = re.compile(r"^#### `([^`]+)`$", re.M)
_VARIES = "\0"  # in place of what a message inserts
_OF_OTHERS = (  # PyTorch's, which test_trials.py has, Python's, Ray's, and the shell's
    "Target ... is out of bounds",
    "must have the same dtype",
    "expected target dtype to be Long or Byte, but got Float",
    "mat1 and mat2 shapes cannot be multiplied (...)",
    "CUDA out of memory",
    "ModuleNotFoundError: No module named '...'",
    "Timed out waiting for other nodes to start.",
    "errorcast: command not found",
)


def shown_messages() -> list[str]:
    return _HEADING.findall(PAGE.read_text(encoding="utf-8"))


def _text(node: ast.expr) -> str | None:
    """Return the text that an expression makes, with a mark for each inserted value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else _VARIES for part in node.values
        )
    return None


def _texts(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.expr) and (text := _text(node)):
            yield text


@cache
def all_messages() -> tuple[str, ...]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return tuple(text for file in files for text in _texts(file))


def is_in(shown: str, message: str) -> bool:
    """Whether a message of the code has all parts of a shown one, in their order."""
    at = 0
    for part in filter(None, shown.split("...")):
        found = message.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def test_the_page_shows_many() -> None:
    assert len(shown_messages()) > 60


@pytest.mark.parametrize("shown", [m for m in shown_messages() if m not in _OF_OTHERS])
def test_each_message_is_one_of_the_code(shown: str) -> None:
    assert any(is_in(shown, message) for message in all_messages()), shown
