"""`errorcast tsne`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DataDir, Picture, RunFolders

Option = typer.Option


def tsne(
    run_dirs: RunFolders,
    out: Picture = Path("tsne.png"),
    layer: Annotated[
        int | None,
        Option(help="Number of the layer, counted from 0; default: the last hidden layer."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Draw a hidden layer's outputs for the test samples in two dimensions (t-SNE).

    Several runs are drawn side by side.

    Examples:
        errorcast tsne runs/my-run
        errorcast tsne runs/my-run runs/other-run --layer 0 --out layers.png
    """
    from coordinator.cli.terminal import Terminal
    from coordinator.cli.warnings import show_warnings
    from coordinator.inspection.embedding import embed
    from coordinator.inspection.plots import draw_embeddings
    from coordinator.inspection.saved_run import open_run

    panels, log = [], Terminal(stderr=True)
    for path in run_dirs:
        run = open_run(path, data_dir)
        features, classes = run.hidden(layer)
        show_warnings(run.warnings)
        with log.working(f"t-SNE of {len(features)} samples of {path}"):
            panels.append((f"{run.job.task.name}, {path.name}", *embed(features, classes)))
    draw_embeddings(panels, out)
    log.command(f"picture: {out}")
