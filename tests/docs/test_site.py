"""The site builds without a warning, needs no network, and its search works from file://."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.documents import DOCUMENTS, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
FOUND = {"identity feedback": "reference/job.html"}  # what is typed, and a page among the results
FIRST = {  # what is typed or pasted, and the page that comes first
    "Slurm": "how-to/slurm.html",
    "out of bounds": "reference/errors.html",
    "when should I use it": "when.html",
    "my own task": "tutorials/own-task.html",
    "--resume": "how-to/resume.html",
    "no service answers at localhost:50051": "reference/errors.html",
    "runs/first: holds a run already; continue it with --resume, or name another --run-dir": (
        "reference/errors.html"
    ),
    "the head (Linear) and the loss fail on inputs of (16, 64) float32 and targets of (16,) int64: "
    "Target 3 is out of bounds.": "reference/errors.html",
}


class Assets(HTMLParser):
    """Collects what a page loads by itself, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        if tag == "a" and "href" in given:
            self.linked.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "docs")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def read(page: Path) -> Assets:
    assets = Assets()
    assets.feed(page.read_text(encoding="utf-8"))
    return assets


@pytest.mark.blocks
def test_every_document_is_a_page(site: Path) -> None:
    places = {"README.md": None, "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
    for document in DOCUMENTS:
        name = str(document.relative_to(ROOT))
        page = places.get(name, name.removeprefix("docs/").removesuffix(".md"))
        assert page is None or (site / f"{page}.html").exists(), name


@pytest.mark.blocks
def test_pages_load_nothing_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        assets = read(page)
        assert any(asset.endswith(".css") for asset in assets.loaded)
        for asset in assets.loaded:
            assert not re.match(r"(https?:)?//", asset), f"{page.relative_to(site)}: {asset}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import )[\"' ]*(https?:)?//", text), sheet.name


@pytest.mark.blocks
def test_links_lead_to_pages_that_are_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for link in read(page).linked:
            path = link.partition("#")[0].partition("?")[0]
            if path and not re.match(r"[a-z]+:", path):
                assert (page.parent / path).exists(), f"{page.relative_to(site)}: {link}"


@pytest.mark.host
@pytest.mark.parametrize(("words", "where"), (FOUND | FIRST).items())
def test_search_works_from_the_file_system(
    site: Path, browser: Browser, words: str, where: str
) -> None:
    results = "li:first-child" if words in FIRST else "li"
    page, asked, errors = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((site / "index.html").as_uri())
    field = page.get_by_role("textbox", name="Search")
    field.click()
    field.fill(words)
    field.press("End")  # a key, as the search waits for one
    found = f".md-search-result__list > {results} .md-search-result__link[href*='{where}']"
    page.locator(found).first.wait_for(timeout=60_000)
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()
