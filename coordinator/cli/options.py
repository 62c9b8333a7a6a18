"""The arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[
    str, typer.Argument(help="A task (see `errorcast tasks`) or path/to/mytask.py:function.")
]
RunFolders = Annotated[list[Path], typer.Argument(help="Folders of runs, shown side by side.")]

BatchSize = Annotated[str | None, typer.Option(help="Number of samples in a step.")]
Blocks = Annotated[str | None, typer.Option(help="Number of layer blocks, one in each worker.")]
DataDir = Annotated[str | None, typer.Option(help="Folder of the data sets.")]
Epochs = Annotated[str | None, typer.Option(help="Number of passes over the training data.")]
Layers = Annotated[int | None, typer.Option(help="The task's option `layers`.")]
Picture = Annotated[Path, typer.Option("--out", "-o", help="File of the picture.")]
RayAddress = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster, or auto; default: start one.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any field of the job: optimizer.lr=0.0005. Repeatable."),
]
Width = Annotated[int | None, typer.Option(help="The task's option `width`.")]
