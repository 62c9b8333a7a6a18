"""`errorcast train`."""

from pathlib import Path
from typing import Annotated

import typer

Help = typer.Option


def train(
    job: Annotated[
        str,
        typer.Argument(
            help="A task (see `errorcast tasks`), a job.yaml, path/to/mytask.py:function, or a run "
            "folder to resume."
        ),
    ] = "",
    method: Annotated[str | None, Help(help="dfa, or bp or shallow in one process.")] = None,
    blocks: Annotated[str | None, Help(help="Layer blocks, each in its own worker.")] = None,
    replicas: Annotated[str | None, Help(help="Copies of every block.")] = None,
    microbatches: Annotated[str | None, Help(help="Equal parts a batch is cut into.")] = None,
    batch_size: Annotated[str | None, Help(help="Samples a step.")] = None,
    epochs: Annotated[str | None, Help(help="Passes over the training data.")] = None,
    seed: Annotated[str | None, Help(help="Of weights, feedback, data order, dropout.")] = None,
    data_dir: Annotated[str | None, Help(help="Folder of the data sets.")] = None,
    set_: Annotated[
        list[str] | None, Help("--set", help="Any field of the job: optimizer.lr=0.0005.")
    ] = None,
    run_dir: Annotated[Path | None, Help(help="The run's folder; default: new, in runs/.")] = None,
    resume: Annotated[bool, Help("--resume", help="Go on from the newest checkpoint.")] = False,
    ray_address: Annotated[str | None, Help(help="Of a Ray cluster to join, or auto.")] = None,
) -> None:
    """Train a task, one layer block in each worker; all blocks learn at once."""
    from rich.console import Console

    from coordinator.cli.viewer import TerminalViewer, faults_line, result_table
    from coordinator.job.spec import assignment, given, merge, read_yaml
    from coordinator.launch.train import train as run_training
    from dfa_core import JobError

    flags = {
        "method": method,
        "blocks": blocks,
        "replicas": replicas,
        "microbatches": microbatches,
        "batch_size": batch_size,
        "epochs": epochs,
        "seed": seed,
        "data_dir": data_dir,
    }
    settings = given(flags)
    task, path = job, Path(job)
    if job.endswith((".yaml", ".yml")):
        settings = merge(read_yaml(path), settings)
        task = str(settings.pop("task", ""))
    elif job and path.is_dir():
        run_dir = run_dir or path
        task = ""
    settings = merge(settings, *(assignment(text) for text in set_ or []))
    if not task and run_dir is not None:
        if not resume:
            raise JobError(f"{run_dir}: holds a run already; go on with --resume")
        task = str(read_yaml(run_dir / "job.yaml").get("task", ""))
    if not task:
        raise JobError("which task? see `errorcast tasks`; the first to try is: train digits")
    console = Console()
    with TerminalViewer(console) as viewer:
        run = run_training(
            task,
            run_dir=run_dir,
            resume=resume,
            ray_address=ray_address,
            viewer=viewer,
            **settings,
        )
    console.print(result_table(run.summary))
    if run.summary["snapshots"]["taken"]:
        console.print(faults_line(run.summary))
    console.print(f"run folder: {run.folder} (curves.png, model.safetensors, metrics.jsonl)")
    if not run.summary["finished"]:
        console.print(
            f"stopped and saved at step {run.summary['steps']}; go on with: "
            f"errorcast train {run.folder} --resume"
        )
        raise typer.Exit(130)
