"""`errorcast train`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import BatchSize, Blocks, DataDir, Epochs, RayAddress, Set

if TYPE_CHECKING:
    from coordinator.cli.terminal import Terminal
    from coordinator.job.spec import Settings

Option = typer.Option


def train(
    job: Annotated[
        str,
        typer.Argument(
            help="Name of a task (`errorcast tasks` lists them), a job file such as job.yaml, "
            "path/to/mytask.py:function, or the folder of a run to resume."
        ),
    ] = "",
    method: Annotated[
        str | None,
        Option(help="dfa: direct feedback alignment; bp: backpropagation; shallow: the head only."),
    ] = None,
    blocks: Blocks = None,
    replicas: Annotated[
        str | None, Option(help="Number of copies of each block; they share a batch.")
    ] = None,
    microbatches: Annotated[
        str | None, Option(help="Number of equal parts that a batch is cut into.")
    ] = None,
    workers: Annotated[
        int | None,
        Option(
            help="Number of workers; errorcast chooses the fastest number of blocks, replicas, "
            "heads and microbatches for them.",
            min=1,
        ),
    ] = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    seed: Annotated[
        str | None, Option(help="Seed of all random numbers: weights, data order, dropout.")
    ] = None,
    data_dir: DataDir = None,
    init: Annotated[
        str | None,
        Option(
            help="Weights to start from: a safetensors file, the folder of a run, or a folder of "
            "the transformers library."
        ),
    ] = None,
    frozen: Annotated[
        list[str] | None,
        Option(help="Weights that are not trained, such as 'layers.[0-5].*'. Repeatable."),
    ] = None,
    set_: Set = None,
    run_dir: Annotated[
        Path | None, Option(help="Folder to write the run to; default: a new folder in runs/.")
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue the run from its newest checkpoint.")
    ] = False,
    ray_address: RayAddress = None,
    profile: Annotated[
        int,
        Option(help="Number of steps to record with torch's profiler, in profile.json.gz.", min=0),
    ] = 0,
) -> None:
    """Train a task, with one block of layers in each worker.

    The run folder gets the weights, the curves and the metrics. A run of more than 30 epochs shows
    only some of its evaluations: the first 10, then every n-th epoch, and at the end the last one
    and the one with the lowest loss. The file metrics.jsonl has all of them.

    Examples:
        errorcast train digits
        errorcast train digits --blocks 3 --epochs 20 --set optimizer.lr=0.0005
        errorcast train runs/my-run --resume
    """
    from coordinator.cli.terminal import Terminal
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
    console = Terminal()
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
        console.say(faults_line(run.summary))
    if data_line(run.summary):
        console.say(data_line(run.summary))
    if run.summary.get("stopped_by"):
        by = run.summary["stopped_by"]
        console.say(f"ended at step {run.summary['steps']} by {by}; to train more steps:")
        console.command(f"  errorcast train {quote(str(run.folder))} --resume")
    console.command(f"run folder: {run.folder}")
    console.say("  (curves.png, model.safetensors, metrics.jsonl)")
    if not run.summary["finished"]:
        console.say(f"stopped and saved at step {run.summary['steps']}; continue with:")
        console.command(f"  errorcast train {quote(str(run.folder))} --resume")
        raise typer.Exit(130)


def _for_workers(task: str, settings: "Settings", workers: int, console: "Terminal") -> "Settings":
    """Print and return the settings that are predicted to be fastest on this number of workers."""
    from coordinator.planning.for_workers import fastest_for, settings_of

    chosen = ("blocks", "replicas", "heads", "microbatches")
    with console.working("measuring the layers"):
        found = fastest_for(workers, task, settings, chosen)
    shape, cut = found.shape, found.microbatches * found.shape.replicas
    places = {"block": "the last block", "coordinator": "the coordinator"}
    head = places.get(shape.head, f"{shape.heads} worker(s) of each replica")
    console.say(
        f"{workers} worker(s): blocks {shape.blocks}, replicas {shape.replicas}, "
        f"microbatches {cut}, head in {head}; predicted {1e3 * found.seconds:,.1f} ms a step"
    )
    return settings_of(found) | {"replicas": shape.replicas, "microbatches": cut}
