"""`errorcast evaluate`."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    data_dir: Annotated[str | None, typer.Option(help="Folder of the data sets.")] = None,
    alignment: Annotated[
        bool,
        typer.Option(
            "--alignment",
            help="Also the cosine of each layer's DFA update with the exact gradient.",
        ),
    ] = False,
) -> None:
    """Evaluate a run's newest checkpoint on the test data, in this process."""
    from rich.console import Console
    from rich.table import Table

    from coordinator.inspection.saved_run import open_run

    run = open_run(run_dir, data_dir)
    table = Table(title=f"{run.job.task.name}, step {run.step}")
    table.add_column("test")
    table.add_column("value", justify="right")
    for name, value in run.scores().items():
        table.add_row(name, f"{value:.4f}")
    console = Console()
    console.print(table)
    if alignment:
        angles = Table(title="alignment with the exact gradient")
        angles.add_column("layer")
        angles.add_column("cosine", justify="right")
        for label, cosine in run.alignment():
            angles.add_row(label, f"{cosine:.3f}")
        console.print(angles)
