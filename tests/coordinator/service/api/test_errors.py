"""The catalogue of errors that clients are shown is the one in the documentation."""

import re
from pathlib import Path

from coordinator.service.errors import CATALOGUE, ServiceError, plain

DOCUMENT = Path(__file__).parents[4] / "docs" / "reference" / "service.md"


def test_the_documented_errors_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.M)
    assert rows == [(kind.name, kind.status.name, kind.about) for kind in CATALOGUE]


def test_a_text_is_one_line_that_a_header_takes() -> None:
    text = str(ServiceError(CATALOGUE[0], "a\nb\x00c\x1b[2J " + "x" * 5000))
    assert text.startswith("MALFORMED: a b c [2J x")
    assert text.isprintable()
    assert len(text) < 1100
    assert plain("") == ""
