"""The notebooks of the tutorials, run by a real kernel, and what they are stored with."""

import os
import re
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.ipynb"))
MOST_BYTES = 400_000
A_PATH = re.compile(r"/(home|root|tmp|work|usr|opt|var|mnt|Users)/")


def executed(name: str, folder: Path, **parameters: object) -> NotebookNode:
    """Run a tutorial in a folder, with other values in its cell of parameters."""
    [path] = [path for path in NOTEBOOKS if path.stem == name]
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    client.execute(env={**os.environ, "PATH": programs})  # as in an activated environment
    return notebook


def outputs(notebook: NotebookNode, of: str = "") -> list[Any]:
    """Return the outputs of the cells whose code has this text."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and of in cell.source]
    return [output for cell in cells for output in cell.outputs]


def texts(notebook: NotebookNode) -> str:
    found = [
        o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs(notebook)
    ]
    return "\n".join(found)


def pictures(notebook: NotebookNode, of: str) -> list[str]:
    """Return what the pictures say without their pixels."""
    shown = [o.data for o in outputs(notebook, of) if o.output_type == "display_data"]
    return [data["text/plain"] for data in shown if "image/png" in data]


def check_digits(notebook: NotebookNode, accuracy: float) -> None:
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]
    training = [cell for cell in notebook.cells if "errorcast.train(" in cell.source]
    calls = [1, 2, 1]  # of train(), one a method in the second cell
    assert len(training) == len(calls)
    for cell, count in zip(training, calls, strict=True):
        shown = pictures(notebook, cell.source)
        assert [text.split(" ")[0] for text in shown] == ["finished"] * count
        [*printed] = [o.text for o in cell.outputs if o.output_type == "stream"]
        assert not any("samples/s" in text for text in printed)
    scores = [float(score) for score in re.findall(r"test accuracy: ([\d.]+)", texts(notebook))]
    assert len(scores) == 2
    assert min(scores) > accuracy
    assert "alignment with the exact gradient" in texts(notebook)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_digits_runs_and_learns(tmp_path: Path) -> None:
    check_digits(executed("digits", tmp_path, epochs=5), accuracy=0.9)
    assert (tmp_path / "digits.safetensors").is_file()


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_speedup_runs(tmp_path: Path) -> None:
    notebook = executed("speedup", tmp_path)
    check_speedup(notebook)


def check_speedup(notebook: NotebookNode) -> None:
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]
    assert len(pictures(notebook, "barh")) == 1
    assert re.search(r"^errorcast  .* ms     1\.00x$", texts(notebook), re.M)
    assert "of the step without work" in texts(notebook)
    assert "\x1b[2K" not in texts(notebook)  # no bar that moves


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not any(output.output_type == "error" for output in cell.outputs)
    images = [o.data["image/png"] for o in outputs(notebook) if "image/png" in o.get("data", {})]
    assert images
    assert all(b64decode(image).startswith(b"\x89PNG") for image in images)
    assert not A_PATH.search(path.read_text(encoding="utf-8"))
    if path.stem == "digits":
        check_digits(notebook, accuracy=0.95)
    else:
        check_speedup(notebook)
