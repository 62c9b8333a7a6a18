"""`errorcast chaos`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def chaos(
    task: Annotated[
        str, typer.Argument(help="A task (see `errorcast tasks`) or path/to/mytask.py:function.")
    ] = "digits",
    kills: Annotated[int, Option(help="Processes to kill.", min=0)] = 5,
    stops: Annotated[int, Option(help="Processes to stop, as if they hung.", min=0)] = 0,
    stop_s: Annotated[float, Option(help="Seconds until a stopped one goes on.", min=0)] = 60.0,
    seed: Annotated[int, Option(help="Of the faults: when, and whom.")] = 0,
    blocks: Annotated[str | None, Option(help="Layer blocks, each in its own worker.")] = None,
    epochs: Annotated[str | None, Option(help="Passes over the training data.")] = "60",
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any field of the job.")] = None,
    out: Annotated[Path | None, Option(help="New folder of both runs; default: in runs/.")] = None,
    form: Annotated[str, Option("--format", help="text or json.")] = "text",
) -> None:
    """Train while processes are killed and stopped, and compare with a run left alone.

    Exit code 1 when the two do not end with the same weights and losses.
    """
    import json
    import sys
    import time
    from dataclasses import asdict

    from rich.console import Console

    from coordinator.experiments.chaos import run_under_faults
    from coordinator.experiments.tables import chaos_table
    from coordinator.job.spec import assignment, given, merge
    from dfa_core import JobError

    if form not in ("text", "json"):
        raise JobError(f"--format: '{form}' must be text or json")
    folder = (out or Path("runs") / f"chaos-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    flags = {"blocks": blocks, "epochs": epochs, "data_dir": data_dir}
    quick = {"log_every": 1, "resources": {"timeout_s": 10}}
    settings = merge(quick, given(flags), *(assignment(text) for text in set_ or []))
    console = Console(file=sys.stderr)
    found = run_under_faults(task, settings, folder, kills, stops, seed, stop_s, console.print)
    summary = {**found.summary(), "folder": str(folder)}
    if form == "json":
        print(json.dumps({**summary, "strikes": [asdict(s) for s in found.faults]}, indent=1))
    else:
        Console().print(chaos_table(found.faults, summary))
    if not (found.same_weights and found.same_losses):
        raise typer.Exit(1)
