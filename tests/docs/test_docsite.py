"""What the site makes of the documents: links, lists, code and notebooks."""

from pathlib import Path

import griffe
import markdown
import nbformat
import pytest
from docsite.docstrings import with_sections
from docsite.links import Target, for_the_site, targets
from docsite.lists import as_python_markdown
from docsite.markdown import table
from docsite.notebooks import notebook_page
from docsite.sources import source_pages
from markdown_it import MarkdownIt
from support.documents import DOCUMENTS
from support.pages import name_of


@pytest.mark.parametrize(
    ("link", "changed"),
    [
        ("../../README.md", "../index.md"),
        ("../../CHANGELOG.md#unreleased", "../changelog.md#unreleased"),
        ("../concepts/rule.md#a", "../concepts/rule.md#a"),
        ("../lego.png", "../lego.png"),
        ("../examples/mytask.py", "../source/docs/examples/mytask.py.md"),
        ("../../dfa_core/block/block.py", "../source/dfa_core/block/block.py.md"),
        ("../../deploy/kubernetes/", "../source/deploy/kubernetes/index.md"),
        ("#a-heading", "#a-heading"),
        ("https://arxiv.org/abs/2006.12878", "https://arxiv.org/abs/2006.12878"),
        ("nothing.md", "nothing.md"),
    ],
)
def test_links(link: str, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "see [this]({}) too",
        "- [a](other.md), ![b]({})",
        '[this]({} "title")',
        '<img src="{}" alt="b">',
    ):
        made = for_the_site(text.format(link), "docs/how-to/new.md", "how-to/new.md")
        assert made == text.format(changed)


def test_links_of_a_page_from_the_root() -> None:
    text = "[a](docs/architecture.md) [b](tests/test_house.py) [c](pyproject.toml)"
    made = for_the_site(text, "CONTRIBUTING.md", "contributing.md")
    assert made == (
        "[a](architecture.md) [b](source/tests/test_house.py.md) [c](source/pyproject.toml.md)"
    )
    assert [one for one in targets(text, "CONTRIBUTING.md") if one.is_code] == [
        Target("tests/test_house.py", ""),
        Target("pyproject.toml", ""),
    ]


def test_code_is_no_link() -> None:
    text = "`[a](../README.md)`\n\n```text\n[a](../README.md)\n```\n[b](../README.md)"
    made = for_the_site(text, "docs/new.md", "new.md")
    assert made == text.replace("[b](../README.md)", "[b](index.md)")
    assert [one.path for one in targets(text, "docs/new.md")] == ["README.md"]


LISTS = [
    "text\n- a\n- b",
    "- a\n  - b\n    more\n  - c\n- d",
    "1. a\n\n   ```sh\n   make\n     deeper\n   ```\n\n   after\n2. b\n   - c\n\n     d",
    "10. a\n\n    b\n11. c",
    "* a\n\n      code\n* b",
    "> quoted\n\n- a\n\n  > quoted\n  > too",
    "```text\n- a\n  - b\n```\n\n- a\ncontinued",
    "| a | b |\n|---|---|\n| - c | d |\n\n- e",
]


def structure(html: str) -> list[str]:
    """Return the names of the tags that lists and code are made of, in their order."""
    words = html.replace("<", " <").replace(">", "> ").split()
    kept = ("<ul", "<ol", "<li", "<pre", "<table", "<blockquote", "<h")
    return [word.rstrip(">") for word in words if word.rstrip(">") in kept]


@pytest.mark.parametrize("text", LISTS)
def test_lists_are_those_that_github_shows(text: str) -> None:
    assert of_the_site(as_python_markdown(text)) == of_github(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_page_has_the_structure_that_github_shows(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert of_the_site(as_python_markdown(text)) == of_github(text)


def of_github(text: str) -> list[str]:
    return structure(MarkdownIt("gfm-like", {"linkify": False}).render(text))


def of_the_site(text: str) -> list[str]:
    extensions = ["attr_list", "tables", "pymdownx.superfences"]
    highlight = {"pymdownx.highlight": {"use_pygments": False}}
    return structure(markdown.markdown(text, extensions=extensions, extension_configs=highlight))


def test_pages_of_code_show_files_and_folders() -> None:
    pages = dict(source_pages(["deploy/kubernetes", "dfa_core/errors.py"]))
    assert "class JobError(" in pages["source/dfa_core/errors.py.md"]
    assert "- [`base/`](base/index.md)\n" in pages["source/deploy/kubernetes/index.md"]
    inner = [place for place in pages if place.startswith("source/deploy/kubernetes/base/")]
    assert len(inner) > 2
    assert all("exclude: true" in text for text in pages.values())


def test_a_file_with_fences_is_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docsite.sources.ROOT", tmp_path)
    monkeypatch.setattr("docsite.links.ROOT", tmp_path)
    texts = {
        "a.txt": "````sh\nmake\n````\n",
        "b.py": '"""A `name`."""\n\n\nx = 1\n',
        "c.txt": "plain",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "b.bin").write_bytes(bytes([255] * 1234))
    pages = dict(source_pages([*texts, "b.bin"]))
    for name in texts:
        page = pages[f"source/{name}.md"].partition("# ")[2]
        assert structure(MarkdownIt().render(page)) == ["<pre"]
    assert "A file of 1,234 bytes." in pages["source/b.bin.md"]


def test_a_notebook_is_a_page_with_its_outputs(tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    picture = {"image/png": "iVBORw0KGgo="}
    made.cells = [
        nbformat.v4.new_markdown_cell("# Title\n\n[a](../index.md)"),
        nbformat.v4.new_code_cell(
            "print(1)",
            outputs=[
                nbformat.v4.new_output("stream", text="1\n"),
                nbformat.v4.new_output("display_data", data=picture),
            ],
        ),
    ]
    nbformat.write(made, tmp_path / "one.ipynb")
    text, pictures = notebook_page(tmp_path / "one.ipynb")
    assert text.startswith("# Title\n\n[a](../index.md)")
    assert "```python\nprint(1)\n```" in text
    (name,) = pictures
    assert name.startswith("one_files/")
    assert name in text
    assert "(one.ipynb)" in text


def test_docstrings_get_sections() -> None:
    text = (
        "Does it.\n\nx, y: tensors,\n    both.\nrest: others.\n\nNote: no name.\n\nRaises JobError."
    )
    made = with_sections(text, {"x": "x", "y": "y", "rest": "**rest"}, "Args")
    assert made == (
        "Does it.\n\nArgs:\n    x: tensors,\n        both.\n    y: tensors,\n        both.\n"
        "    **rest: others.\n\nNote: no name.\n\nRaises JobError."
    )
    parsed = griffe.Docstring(made).parse("google")
    assert [section.kind.value for section in parsed] == ["text", "parameters", "text"]


def test_a_table_has_no_empty_column_and_keeps_bars() -> None:
    assert table("abc", [("1", "", "x|y"), ("2", "", "")]) == (
        "| a | c |\n|---|---|\n| 1 | x\\|y |\n| 2 |  |\n"
    )
