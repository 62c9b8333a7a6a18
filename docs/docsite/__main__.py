"""`make reference` writes the generated pages; --check only names those that are old."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docsite.cli_page import cli_page
from docsite.job_page import job_page
from docsite.links import ROOT

GENERATED: Mapping[Path, Callable[[], str]] = {
    ROOT / "docs" / "reference" / "cli.md": cli_page,
    ROOT / "docs" / "reference" / "job.md": job_page,
}


def main(only_check: bool) -> int:
    """Write the pages, or compare them; return the exit code."""
    old = [path for path, make in GENERATED.items() if not _is_current(path, make())]
    if only_check:
        for path in old:
            print(f"{path.relative_to(ROOT)} is not current: run make reference", file=sys.stderr)
        return int(bool(old))
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GENERATED[path](), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
