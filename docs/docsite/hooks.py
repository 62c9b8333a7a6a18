"""What mkdocs calls while it builds the site (mkdocs.yml names this file)."""

from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from docsite.links import ROOT, for_the_site, origin_of, targets
from docsite.lists import as_python_markdown
from docsite.notebooks import notebook_page
from docsite.sources import source_pages

_ASSETS = Path(__file__).parent / "assets"
_FROM_ROOT = ("contributing.md", "changelog.md")
_BOOSTS = {  # how much a page counts in the search: the first place that its name begins with
    "reference/errors.md": 8,
    "when.md": 9,
    "tutorials/own-task.md": 6,
    "tutorials/": 3,
    "how-to/model.md": 8,
    "how-to/": 4,
    "concepts/words.md": 3,
    "reference/cli.md": 3,
    "reference/job.md": 3,
    "results": 0.3,
    "benchmarks/": 0.3,
    "experiments.md": 0.1,
    "decisions.md": 0.1,
    "architecture.md": 0.3,
    "changelog.md": 0.1,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/: of the root, of notebooks, of linked code."""
    for asset in sorted(_ASSETS.iterdir()):
        _add(files, config, f"assets/{asset.name}", asset.read_bytes())
    for page in _FROM_ROOT:
        _add(files, config, page, (ROOT / origin_of(page)).read_text(encoding="utf-8"))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text, pictures = notebook_page(Path(str(file.abs_src_path)))
        notebook = PurePosixPath(file.src_uri)
        _add(files, config, str(notebook.with_suffix(".md")), text)
        for name, picture in pictures.items():
            _add(files, config, str(notebook.parent / name), picture)
    pages = [file for file in files if file.src_uri.endswith(".md")]
    linked = {
        target.path
        for file in pages
        for target in targets(file.content_string, origin_of(file.src_uri))
        if target.is_code
    }
    for place, text in source_pages(linked):
        _add(files, config, place, text, InclusionLevel.NOT_IN_NAV)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make a page's links and lists fit the site; tell the search how much it counts."""
    name = page.file.src_uri
    boost = next((boost for place, boost in _BOOSTS.items() if name.startswith(place)), 1)
    page.meta.setdefault("search", {"boost": boost})
    if name.startswith("source/"):
        return markdown
    return as_python_markdown(for_the_site(markdown, origin_of(name), name))


def _add(
    files: Files,
    config: MkDocsConfig,
    place: str,
    content: str | bytes,
    inclusion: InclusionLevel = InclusionLevel.UNDEFINED,
) -> None:
    files.append(File.generated(config, place, content=content, inclusion=inclusion))
