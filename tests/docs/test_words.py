"""Prose, help, messages, docstrings and comments use plain words.

The words below were once used here against their everyday meaning, or only by this project.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, ROOT

PACKAGES = ("coordinator", "dfa_core", "dfa_tasks", "dfa_speedup", "workers", "benchmarks", "docs")
PAGE = ROOT / "coordinator" / "service" / "web" / "assets"
AVOIDED = {
    r"(?<!points )(?<!far )behind (?!a proxy)": "after, or later",
    r"(?<!thing )(?<!one )(?<!body )(?<!who )(?<!what )(?<!How )(?<!where )else": "otherwise",
    r"(?:is|are|was|be|been|not) told": "reported, or sent",
    r"tells? apart|told apart": "distinguish",
    r"com(?:es?|ing) to (?!this|the page)": "reaches, or ends with",
    r"foret(?:ell|old|ells|elling)": "predict",
    r"so[- ]many(?:eth)?": "the number of",
    r"spoilt": "not finite",
    r"(?:is|are|was|were|be|been) left out": "is skipped, or is omitted",
    r"angles of (?:the )?layers?": "alignment",
    r"(?:is|are|was|been) asked of": "is requested from",
    r"read out of": "decoded from",
    r"stands? (?:in|beside|below|above|there)": "is in, is beside",
    r"so long is": "while",
    r"changed nothing": "was skipped",
    r"goes? on (?:with|from|to|until|as|in)": "continues",
    r"shall": "must, or will",
    r"(?:the )?crews?|lanes?|shipments?|wirings?|saboteurs?": "the field's term",
    r"heretofore|hereby|thereby|therein|wherein|whereof|thereof": "a plain word",
}


def prose(document: Path) -> str:
    """Return a document's text without its blocks of code and its code words."""
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def spoken(file: Path) -> Iterator[str]:
    """Yield the comments and texts of a Python file, without what f-strings insert."""
    code = file.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def found_in(text: str) -> list[str]:
    joined = re.sub(r"\s+", " ", text)
    return [
        f"...{joined[max(0, hit.start() - 30) : hit.end() + 30]}... (say: {better})"
        for words, better in AVOIDED.items()
        for hit in re.finditer(rf"\b(?:{words})(?!\w)", joined, re.I)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_use_plain_words(document: Path) -> None:
    assert not found_in(prose(document))


@pytest.mark.parametrize("package", PACKAGES)
def test_code_speaks_plainly(package: str) -> None:
    files = [file for file in (ROOT / package).rglob("*.py") if "_pb2" not in file.name]
    found = {
        str(file.relative_to(ROOT)): hits
        for file in files
        if (hits := [hit for text in spoken(file) for hit in found_in(text)])
    }
    assert not found


@pytest.mark.parametrize("file", sorted(PAGE.glob("*.html")), ids=lambda p: p.name)
def test_the_services_page_speaks_plainly(file: Path) -> None:
    assert not found_in(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", sorted(PAGE.glob("*.js")), ids=lambda p: p.name)
def test_the_services_scripts_speak_plainly(file: Path) -> None:
    said = re.findall(
        r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|'[^'\n]*'", file.read_text(encoding="utf-8"), re.S
    )
    assert not [hit for text in said for hit in found_in(text)]
