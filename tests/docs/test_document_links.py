"""The links between the documents, and from them to code and tests, lead somewhere."""

import re
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, ROOT, anchors
from support.pages import name_of

FENCED = re.compile(r"^ *```.*?^ *```", re.M | re.S)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r'(?:\]\(|\bsrc=")([^)#\s"]*)#?([^)\s"]*)', text):
        if "://" not in target:
            there = document.parent / target if target else document
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"
    for test in re.findall(r"`(tests/[^` ]+)`", text):
        assert (ROOT / test).exists(), test
