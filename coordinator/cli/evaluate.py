"""`errorcast evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DataDir


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run.")],
    data_dir: DataDir = None,
    alignment: Annotated[
        bool,
        typer.Option(
            "--alignment",
            help="Also show the cosine of each layer's update with the exact gradient.",
        ),
    ] = False,
) -> None:
    """Compute the test scores of a run's best or newest checkpoint, in one process.

    It takes the checkpoint of the best epoch if the job chooses one, and otherwise the newest.

    Examples:
        errorcast evaluate runs/my-run
        errorcast evaluate runs/my-run --alignment
    """
    from coordinator.cli.terminal import Terminal
    from coordinator.cli.warnings import show_warnings
    from coordinator.experiments.text.layout import Column
    from coordinator.experiments.text.table import TextTable
    from coordinator.inspection.saved_run import open_run

    run = open_run(run_dir, data_dir)
    console = Terminal()
    scores = TextTable(
        title=f"{run.job.task.name}, step {run.step}",
        columns=[Column("test"), Column("value", right=True)],
        rows=[(name, f"{value:.4f}") for name, value in run.scores().items()],
    )
    show_warnings(run.warnings)
    console.print(scores)
    if alignment:
        cosines = TextTable(
            title="alignment with the exact gradient",
            columns=[Column("layer"), Column("cosine", right=True)],
            rows=[(label, f"{cosine:.3f}") for label, cosine in run.alignment()],
        )
        console.print()
        console.print(cosines)
