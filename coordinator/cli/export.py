"""`errorcast export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "model.safetensors"
    ),
) -> None:
    """Write the weights of a run's newest checkpoint as one safetensors file."""
    from coordinator.runs.run_folder import RunFolder
    from dfa_core import JobError

    folder = RunFolder(run_dir.absolute())
    folder.spec()  # raises JobError if this is not a run folder
    try:
        step = folder.write_model(output)
    except OSError as error:
        raise JobError(f"{output} cannot be written: {error}") from error
    if step is None:
        raise JobError(f"{run_dir}: contains no checkpoint yet")
    print(f"{output}: weights after step {step}, {output.stat().st_size:,} bytes")
