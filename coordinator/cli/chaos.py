"""`errorcast chaos`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.connection import Form, Format
from coordinator.cli.options import Blocks, DataDir, Epochs, Set, TaskName

Option = typer.Option


def chaos(
    task: TaskName = "digits",
    kills: Annotated[int, Option(help="Number of processes to kill.", min=0)] = 5,
    stops: Annotated[int, Option(help="Number of processes to stop, as if they hung.", min=0)] = 0,
    stop_s: Annotated[
        float, Option(help="Seconds until a stopped process continues.", min=0)
    ] = 60.0,
    seed: Annotated[int, Option(help="Fixes when the faults happen and in which processes.")] = 0,
    blocks: Blocks = None,
    epochs: Epochs = "60",
    data_dir: DataDir = None,
    set_: Set = None,
    out: Annotated[
        Path | None, Option(help="New folder for both runs; default: one in runs/.")
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """Train while processes are killed and stopped, and compare with a run without faults.

    Exit code 1 if the two runs do not have the same weights and losses.
    """
    import sys
    from dataclasses import asdict

    from rich.console import Console

    from coordinator.experiments.chaos import run_under_faults
    from coordinator.experiments.tables import chaos_table
    from coordinator.job.spec import from_flags, merge
    from coordinator.runs.folders import folder_of_runs
    from coordinator.runs.valid_json import json_text

    flags = {"blocks": blocks, "epochs": epochs, "data_dir": data_dir}
    quick = {"log_every": 1, "resources": {"timeout_s": 10}}
    settings = merge(quick, from_flags(flags, set_))
    console = Console(file=sys.stderr)
    with folder_of_runs(out, "chaos") as folder:
        found = run_under_faults(task, settings, folder, kills, stops, seed, stop_s, console.print)
    summary = {**found.summary(), "folder": str(folder)}
    if form is Form.JSON:
        strikes = [asdict(strike) for strike in found.faults]
        print(json_text({**summary, "strikes": strikes}, indent=1))
    else:
        Console().print(chaos_table(found.faults, summary))
    if not (found.same_weights and found.same_losses):
        raise typer.Exit(1)
