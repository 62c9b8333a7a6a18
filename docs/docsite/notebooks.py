"""Notebooks as pages: their text, their code and their saved outputs; nothing is executed."""

from pathlib import Path, PurePosixPath

from nbconvert import MarkdownExporter


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and the pictures that it shows, by their names.

    The names are unique among the notebooks of a folder.
    """
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    resources = {"output_files_dir": f"{path.stem}_files"}
    text, made = exporter.from_filename(str(path), resources=resources)
    pictures: dict[str, bytes] = made["outputs"]
    source = PurePosixPath(path.name)
    return f"{text.rstrip()}\n\n[Download this notebook]({source}){{ download }}\n", pictures
