"""`errorcast tsne`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def tsne(
    run_dirs: Annotated[list[Path], typer.Argument(help="Folders of runs, a panel each.")],
    out: Annotated[Path, Option("--out", "-o", help="The picture.")] = Path("tsne.png"),
    layer: Annotated[
        int | None, Option(help="Whose output is drawn, from 0; left out, the last hidden one's.")
    ] = None,
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
) -> None:
    """Draw what a hidden layer makes of the test samples, in two dimensions (t-SNE)."""
    from rich.console import Console

    from coordinator.inspection.embedding import embed
    from coordinator.inspection.plots import draw_embeddings
    from coordinator.inspection.saved_run import open_run

    panels, told = [], Console(stderr=True)
    for path in run_dirs:
        run = open_run(path, data_dir)
        features, classes = run.hidden(layer)
        with told.status(f"t-SNE of {len(features)} samples of {path}"):
            panels.append((f"{run.job.task.name}, {path.name}", *embed(features, classes)))
    draw_embeddings(panels, out)
    told.print(f"picture: {out}")
