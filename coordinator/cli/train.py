"""`errorcast train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import BatchSize, Blocks, DataDir, Epochs, RayAddress, Set

if TYPE_CHECKING:
    from rich.console import Console

    from coordinator.job.spec import Settings

Option = typer.Option


def train(
    job: Annotated[
        str,
        typer.Argument(
            help="A task (see `errorcast tasks`), a job.yaml, path/to/mytask.py:function, or a run "
            "folder to resume."
        ),
    ] = "",
    method: Annotated[
        str | None, Option(help="dfa; bp, which is backpropagation; or shallow: the head alone.")
    ] = None,
    blocks: Blocks = None,
    replicas: Annotated[str | None, Option(help="Number of copies of every block.")] = None,
    microbatches: Annotated[str | None, Option(help="Number of equal parts of a batch.")] = None,
    workers: Annotated[
        int | None,
        Option(help="Number of workers: the fastest blocks, replicas, heads, microbatches.", min=1),
    ] = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    seed: Annotated[
        str | None, Option(help="Seed of weights, data order, dropout and the task's own draws.")
    ] = None,
    data_dir: DataDir = None,
    init: Annotated[
        str | None,
        Option(help="First weights: a safetensors file, a run folder, a folder of transformers."),
    ] = None,
    frozen: Annotated[
        list[str] | None,
        Option(help="Weights that stay as they are, such as 'layers.[0-5].*'. Repeatable."),
    ] = None,
    set_: Set = None,
    run_dir: Annotated[
        Path | None, Option(help="Folder of the run; default: a new one in runs/.")
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue from the newest checkpoint.")
    ] = False,
    ray_address: RayAddress = None,
    profile: Annotated[
        int, Option(help="Record so many steps with torch's profiler; see profile.json.gz.", min=0)
    ] = 0,
) -> None:
    """Train a task with one layer block in each worker; all blocks learn at the same time."""
    from rich.console import Console
    from rich.markup import escape

    from coordinator.cli.viewer import TerminalViewer, data_line, faults_line, result_table
    from coordinator.job.spec import from_flags, given, merge, read_recorded, read_yaml
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
        "init": init,
        "frozen": frozen or None,
    }
    settings = given(flags)
    task, path = job, Path(job)
    if job.endswith((".yaml", ".yml")):
        settings = merge(read_yaml(path), settings)
        task = str(settings.pop("task", ""))
    elif job and path.is_dir():
        run_dir = run_dir or path
        task = ""
    settings = merge(settings, from_flags({}, set_))
    if not task and run_dir is not None:
        if not resume:
            raise JobError(f"{run_dir}: holds a run already; continue it with --resume")
        task = str(read_recorded(run_dir / "job.yaml").get("task", ""))
    if not task:
        raise JobError("which task? see `errorcast tasks`; to begin, try: errorcast train digits")
    console = Console()
    if workers is not None:
        settings = merge(settings, _for_workers(task, settings, workers, console))
    with TerminalViewer(console) as viewer:
        run = run_training(
            task,
            run_dir=run_dir,
            resume=resume,
            ray_address=ray_address,
            viewer=viewer,
            profile=profile,
            **settings,
        )
    console.print(result_table(run.summary))
    if run.summary["snapshots"]["taken"]:
        console.print(faults_line(run.summary))
    if data_line(run.summary):
        console.print(data_line(run.summary))
    if run.summary.get("stopped_by"):
        by = escape(run.summary["stopped_by"])
        console.print(
            f"ended at step {run.summary['steps']} by {by}; to train on: errorcast train "
            f"{run.folder} --resume"
        )
    console.print(f"run folder: {run.folder} (curves.png, model.safetensors, metrics.jsonl)")
    if not run.summary["finished"]:
        console.print(
            f"stopped and saved at step {run.summary['steps']}; continue with: "
            f"errorcast train {run.folder} --resume"
        )
        raise typer.Exit(130)


def _for_workers(task: str, settings: "Settings", workers: int, console: "Console") -> "Settings":
    """Return the settings with which so many workers are fastest, as predicted here; print them."""
    from coordinator.planning.for_workers import fastest_for, settings_of

    chosen = ("blocks", "replicas", "heads", "microbatches")
    with console.status("measuring the layers"):
        found = fastest_for(workers, task, settings, chosen)
    shape, cut = found.shape, found.microbatches * found.shape.replicas
    places = {"block": "the last block", "coordinator": "the coordinator"}
    head = places.get(shape.head, f"{shape.heads} worker(s) of each replica")
    console.print(
        f"{workers} worker(s): blocks {shape.blocks}, replicas {shape.replicas}, "
        f"microbatches {cut}, head in {head}; predicted {1e3 * found.seconds:,.1f} ms a step"
    )
    return settings_of(found) | {"replicas": shape.replicas, "microbatches": cut}
