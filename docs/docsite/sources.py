"""Pages that show files of the repository which are not documents: code, job files, folders."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from docsite.links import ROOT, place_of

_LANGUAGES = {
    ".bash": "bash",
    ".json": "json",
    ".proto": "proto",
    ".py": "python",
    ".service": "ini",
    ".sh": "bash",
    ".sbatch": "bash",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_NOT_SHOWN = ("__pycache__", ".egg-info")
_HEADER = "---\ntitle: {title}\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n# `{title}`\n\n"


def source_pages(linked: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of a page for each linked file and folder, and what is in it.

    linked: paths in the repository.
    """
    left, seen = sorted(linked), set[str]()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        if (ROOT / path).is_dir():
            inside = _inside(path)
            left += inside
            yield place_of(path), _folder_page(path, inside)
        else:
            yield place_of(path), _file_page(path)


def _inside(folder: str) -> list[str]:
    """Return the paths of what is in a folder: folders first."""
    found = [
        p
        for p in (ROOT / folder).iterdir()
        if p.suffix not in _NOT_SHOWN and p.name not in _NOT_SHOWN
    ]
    return [f"{folder}/{p.name}" for p in sorted(found, key=lambda p: (p.is_file(), p.name))]


def _folder_page(path: str, inside: Iterable[str]) -> str:
    lines = [_HEADER.format(title=f"{path}/")]
    for each in inside:
        name = Path(each).name
        link, shown = (
            (f"{name}/index.md", f"{name}/") if (ROOT / each).is_dir() else (f"{name}.md", name)
        )
        lines.append(f"- [`{shown}`]({link})\n")
    return "".join(lines)


def _file_page(path: str) -> str:
    file = ROOT / path
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return _HEADER.format(title=path) + f"A file of {file.stat().st_size:,} bytes.\n"
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`+", text)), 0)
    language = _LANGUAGES.get(file.suffix, "docker" if file.name == "Dockerfile" else "text")
    code = f'{fence}{language} linenums="1"\n{text.rstrip()}\n{fence}\n'
    return _HEADER.format(title=path) + code
