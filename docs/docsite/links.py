"""Turns the links between files of the repository into links between pages of the site.

The documents are written for a reader of the repository: a link is the relative path of a file.
Most of these files are pages of the site too, under a path that place_of() returns.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_AS_THEY_ARE = (
    ".md",
    ".png",
    ".svg",
    ".json",
)  # of docs/: pages and pictures, and data to download
_CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2`*$|`[^`\n]+`", re.M | re.S)
_LINK = re.compile(r'(\]\(|\bsrc=")([^)\s"]+)("|[^)]*\))')


@dataclass(frozen=True)
class Target:
    """What a link leads to.

    path: of the file or folder in the repository, without a slash at its end.
    anchor: the heading's, with its #, or empty.
    """

    path: str
    anchor: str

    @property
    def is_code(self) -> bool:
        """Return whether it is a file or a folder that is no page of docs/."""
        return place_of(self.path).startswith("source/")


def origin_of(page: str) -> str:
    """Return the path in the repository of the file that a page of the site shows."""
    from_root = {page: name for name, page in _FROM_ROOT.items() if name != "README.md"}
    return from_root.get(page, f"docs/{page}")


def place_of(path: str) -> str:
    """Return the path under docs/ of the page that shows a file or a folder of the repository."""
    if path in _FROM_ROOT:
        return _FROM_ROOT[path]
    if path.startswith("docs/") and path.endswith(_AS_THEY_ARE):
        return path.removeprefix("docs/")
    if path.startswith("docs/") and path.endswith(".ipynb"):
        return path.removeprefix("docs/").removesuffix(".ipynb") + ".md"
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def targets(text: str, origin: str) -> Iterator[Target]:
    """Yield what the links of a document lead to, where this is in the repository.

    text: Markdown.
    origin: path of the document in the repository.
    """
    for piece, is_code in _pieces(text):
        if not is_code:
            for match in _LINK.finditer(piece):
                target = _target(match[2], origin)
                if target is not None:
                    yield target


def for_the_site(text: str, origin: str, page: str) -> str:
    """Return a document with links that work in the site.

    text: Markdown.
    origin: path of the document in the repository.
    page: path of the page under docs/.
    """
    folder = posixpath.dirname(page)

    def changed(match: re.Match[str]) -> str:
        target = _target(match[2], origin)
        if target is None:
            return match[0]
        link = posixpath.relpath(place_of(target.path), folder or ".")
        return f"{match[1]}{link}{target.anchor}{match[3]}"

    pieces = _pieces(text)
    return "".join(piece if code else _LINK.sub(changed, piece) for piece, code in pieces)


def _target(link: str, origin: str) -> Target | None:
    """Return what is meant; None outside the repository, and for an anchor of the same page."""
    path, hash_sign, anchor = link.partition("#")
    if not path or "://" in link or link.startswith(("/", "mailto:")):
        return None
    full = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    if full.startswith("..") or not (ROOT / full).exists():
        return None
    return Target(full, hash_sign + anchor)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield a document's parts in order, each with whether it is code."""
    end = 0
    for match in _CODE.finditer(text):
        yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    yield text[end:], False
