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
    stops: Annotated[
        int, Option(help="Number of processes to stop for a while, as if they hung.", min=0)
    ] = 0,
    stop_s: Annotated[
        float, Option(help="Seconds after which a stopped process continues.", min=0)
    ] = 60.0,
    seed: Annotated[
        int, Option(help="Seed of the times of the faults and of the processes they hit.")
    ] = 0,
    blocks: Blocks = None,
    epochs: Epochs = "60",
    data_dir: DataDir = None,
    set_: Set = None,
    out: Annotated[
        Path | None, Option(help="New folder for both runs; default: a folder in runs/.")
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """Train while processes are killed, and compare the result with a run without faults.

    The exit code is 1 if the two runs do not have the same weights and losses.

    Examples:
        errorcast chaos digits --kills 3
        errorcast chaos digits --kills 0 --stops 2 --stop-s 30
    """
    from dataclasses import asdict

    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.chaos import run_under_faults
    from coordinator.experiments.tables import chaos_table
    from coordinator.job.spec import from_flags, merge
    from coordinator.runs.folders import folder_of_runs
    from coordinator.runs.valid_json import json_text

    flags = {"blocks": blocks, "epochs": epochs, "data_dir": data_dir}
    quick = {"log_every": 1, "resources": {"timeout_s": 10}}
    settings = merge(quick, from_flags(flags, set_))
    log = Terminal(stderr=True)
    with folder_of_runs(out, "chaos") as folder:
        found = run_under_faults(task, settings, folder, kills, stops, seed, stop_s, log.say)
    summary = {**found.summary(), "folder": str(folder)}
    if form is Form.JSON:
        strikes = [asdict(strike) for strike in found.faults]
        print(json_text({**summary, "strikes": strikes}, indent=1))
    else:
        Terminal().print(chaos_table(found.faults, summary))
    if not (found.same_weights and found.same_losses):
        raise typer.Exit(1)
