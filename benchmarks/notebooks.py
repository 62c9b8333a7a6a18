"""Runs the notebooks of docs/tutorials/ on this machine, and stores them with their outputs.

    python -m benchmarks.notebooks            # all of them
    python -m benchmarks.notebooks speedup    # measure on a quiet machine

Each runs in an empty folder, which is removed afterwards.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.filters import strip_ansi

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"


def store_outputs(path: Path) -> None:
    """Run a notebook and write it again. Raises CellExecutionError when a cell fails."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=3600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        client.execute(env={**os.environ, "PATH": programs})  # as in an activated environment
    for output in (o for cell in notebook.cells for o in cell.get("outputs", ())):
        if "text" in output:  # of a command: its colours would be signs on the site
            plain = strip_ansi(output.text)  # type: ignore[no-untyped-call]
            output.text = plain.replace("\r\n", "\n").strip("\n") + "\n"
    notebook.metadata["language_info"] = {"name": "python"}  # no versions: fewer changed lines
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def main() -> None:
    """Run the notebooks that are named, by default all."""
    names = sys.argv[1:] or sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
    for name in names:
        print(f"running {name}")
        store_outputs(TUTORIALS / f"{name}.ipynb")


if __name__ == "__main__":
    main()
