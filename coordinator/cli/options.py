"""The arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[
    str,
    typer.Argument(
        help="Name of a task (`errorcast tasks` lists them), or path/to/mytask.py:function."
    ),
]
RunFolders = Annotated[list[Path], typer.Argument(help="Folders of one or more runs.")]

BatchSize = Annotated[str | None, typer.Option(help="Number of samples in a training step.")]
Blocks = Annotated[
    str | None,
    typer.Option(help="Number of blocks that the layers are divided into; each has a worker."),
]
DataDir = Annotated[
    str | None,
    typer.Option(help="Folder with the data sets; default: ERRORCAST_DATA or a download."),
]
Epochs = Annotated[str | None, typer.Option(help="Number of passes over the training data.")]
Layers = Annotated[
    int | None, typer.Option(help="Number of layers, for a task that has the option `layers`.")
]
Picture = Annotated[Path, typer.Option("--out", "-o", help="File to write the picture to.")]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Address of a Ray cluster to use, or auto; default: start a new one here."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Set any field of the job, such as optimizer.lr=0.0005. Repeatable."
    ),
]
Width = Annotated[
    int | None, typer.Option(help="Width of the layers, for a task that has the option `width`.")
]
