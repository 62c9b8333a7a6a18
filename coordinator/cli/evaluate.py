"""`errorcast evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DataDir


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data_dir: DataDir = None,
    alignment: Annotated[
        bool,
        typer.Option(
            "--alignment",
            help="Also show the cosine of each layer's DFA update with the exact gradient.",
        ),
    ] = False,
) -> None:
    """Evaluate a run's newest checkpoint on the test data, in one process."""
    from rich.console import Console
    from rich.table import Table

    from coordinator.cli.warnings import show_warnings
    from coordinator.inspection.saved_run import open_run

    run = open_run(run_dir, data_dir)
    table = Table(title=f"{run.job.task.name}, step {run.step}")
    table.add_column("test")
    table.add_column("value", justify="right")
    for name, value in run.scores().items():
        table.add_row(name, f"{value:.4f}")
    show_warnings(run.warnings)
    console = Console()
    console.print(table)
    if alignment:
        cosines = Table(title="alignment with the exact gradient")
        cosines.add_column("layer")
        cosines.add_column("cosine", justify="right")
        for label, cosine in run.alignment():
            cosines.add_row(label, f"{cosine:.3f}")
        console.print(cosines)
