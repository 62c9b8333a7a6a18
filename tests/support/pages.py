"""Documents as pages that a reader follows: which of them can be followed here, and where."""

from pathlib import Path

from support.documents import DOCUMENTS, GUIDE, ROOT
from support.shown_blocks import ShownBlock, shown_blocks

IN_A_CHECKOUT = ("benchmarks", "deploy", "docs")
# what these do needs other machines, containers or the administrator, or is this test itself
NOT_HERE = (
    *("docker", "helm", "kubectl", "make", "pip", "ray", "sbatch", "scancel", "sudo"),
    ".venv/bin/pre-commit",
)
_FOLLOWED_ELSEWHERE = (GUIDE,)  # tests/coordinator/service/api/test_documents.py
# these commands take hours: they run with options that make them short
_MEASURED = ("benchmarks", "experiments", "leaderboard", "performance", "results", "when")


def followed() -> list[Path]:
    """Return the documents whose blocks `make endurance` runs, in their order."""
    return [
        path
        for path in DOCUMENTS
        if path not in _FOLLOWED_ELSEWHERE
        and any(block.language in ("sh", "python", "yaml") for block in shown_blocks(path))
    ]


def takes_hours(document: Path) -> bool:
    """Return whether the commands of a document measure for hours."""
    return bool({document.stem, document.parent.name} & {*_MEASURED})


def name_of(document: Path) -> str:
    """Return what a test of a document is called."""
    return str(document.relative_to(ROOT))


def as_in_a_checkout(folder: Path) -> None:
    """Make a folder one from which the paths that the documents name can be reached."""
    for name in IN_A_CHECKOUT:
        (folder / name).symlink_to(ROOT / name)


def save(block: ShownBlock, folder: Path) -> None:
    """Write a block into the file that the document tells its reader to save it in, if any."""
    if block.saved_as:
        file = folder / block.saved_as
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code, encoding="utf-8")


def as_its_reader(folder: Path, document: Path) -> None:
    """Make a folder one that has all that the reader of a document has."""
    as_in_a_checkout(folder)
    for block in shown_blocks(document):
        save(block, folder)
