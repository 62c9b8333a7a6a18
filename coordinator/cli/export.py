"""`errorcast export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Option = typer.Option


def export(
    run_dir: Annotated[Path, typer.Argument(help="Folder of the run.")],
    output: Annotated[
        Path | None,
        Option("--output", "-o", help="File to write, or the folder for transformers."),
    ] = None,
    format_: Annotated[
        Literal["errorcast", "module", "transformers"],
        Option(
            "--format",
            help="errorcast: weights with errorcast's names (layers.3...); module: with the names "
            "in the task's module; transformers: a folder that from_pretrained() loads.",
        ),
    ] = "errorcast",
) -> None:
    """Write the weights of a run's best or newest checkpoint to a file.

    Examples:
        errorcast export runs/my-run --output model.safetensors
        errorcast export runs/my-run --format module
    """
    from coordinator.inspection.export import export_module, export_transformers
    from coordinator.runs.run_folder import RunFolder
    from dfa_core import JobError

    folder = RunFolder(run_dir.absolute())
    folder.spec()  # raises JobError if this is not a run folder
    output = output or Path("model" if format_ == "transformers" else "model.safetensors")
    write = {
        "errorcast": RunFolder.write_model,
        "module": export_module,
        "transformers": export_transformers,
    }[format_]
    try:
        step = write(folder, output)
    except OSError as error:
        raise JobError(f"{output} cannot be written: {error}") from error
    if step is None:
        raise JobError(f"{run_dir}: contains no checkpoint yet")
    files = [output] if output.is_file() else list(output.rglob("*"))
    size = sum(file.stat().st_size for file in files if file.is_file())
    print(f"{output}: weights after step {step}, {size:,} bytes")
