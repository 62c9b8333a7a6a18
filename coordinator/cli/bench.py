"""`errorcast bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.cli.options import BatchSize, DataDir, Layers, RayAddress, Set, TaskName, Width

Option = typer.Option


def bench(
    task: TaskName = "mlp",
    blocks: Annotated[
        str | None, Option(help="Number of workers that each contender gets.")
    ] = None,
    workers: Annotated[
        int | None,
        Option(help="The same number; errorcast uses its fastest blocks and heads.", min=1),
    ] = None,
    microbatches: Annotated[
        str, Option(help="Numbers to try; each contender uses its best.")
    ] = "2,4,8",
    batch_size: BatchSize = None,
    width: Width = None,
    layers: Layers = None,
    data_dir: DataDir = None,
    set_: Set = None,
    rounds: Annotated[
        int, Option(help="Number of rounds in which all contenders take turns.", min=1)
    ] = 4,
    steps: Annotated[int, Option(help="Number of steps of a contender in a round.", min=1)] = 3,
    every: Annotated[bool, Option("--all", help="Show every number of microbatches.")] = False,
    to_accuracy: Annotated[
        float | None,
        Option(help="Also train errorcast and the best pipeline to this test accuracy, %."),
    ] = None,
    to_loss: Annotated[
        float | None, Option(help="Also train both to this test loss instead of an accuracy.")
    ] = None,
    pipeline_set: Annotated[
        list[str] | None, Option(help="Like --set, but only for the pipeline's training.")
    ] = None,
    out: Annotated[Path, Option(help="Folder of the results.")] = Path("bench"),
    ray_address: RayAddress = None,
) -> None:
    """Compare the time of a step with pipeline backpropagation on the same workers."""
    import shlex
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from coordinator.experiments.bench import measure, write_results
    from coordinator.experiments.tables import bench_table, target_table
    from coordinator.experiments.time_to_target import race
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import from_flags, given, merge, whole_numbers
    from coordinator.planning.for_workers import one_pipeline_of
    from coordinator.runs.folders import locked_folder
    from dfa_core import JobError, TrainingFailed

    flags: dict[str, Any] = {
        "blocks": blocks,
        "batch_size": batch_size,
        "data_dir": data_dir,
        "options": given({"width": width, "layers": layers}),
    }
    tried = whole_numbers("microbatches", microbatches)
    settings = merge(from_flags(flags, set_), {"microbatches": tried[0]})
    if workers is not None:
        settings = merge(settings, one_pipeline_of(workers, task, settings))
    job = resolve(task, settings)
    peer = resolve(task, merge(settings, from_flags({}, pipeline_set)))
    if job.task.fetch is not None:
        job.task.fetch()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"--out {out} cannot be written: {error}") from error
    console = Console()
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total)

        found, comparison = measure(job, tried, rounds, steps, progress, ray_address)
        stopped: BaseException | None = comparison.stopped
        score, bound = ("loss", to_loss) if to_accuracy is None else ("accuracy", to_accuracy)
        if bound is not None and stopped is None:
            progress("training to the target", 0, 1)
            bound /= 100 if score == "accuracy" else 1
            try:
                found["race"] = race(job, peer, comparison, score, bound, ray_address)
            except (KeyboardInterrupt, JobError, TrainingFailed) as error:
                stopped = error  # shown after what was measured before it
    found["command"] = shlex.join(["errorcast", *sys.argv[1:]])
    console.print(bench_table(found, every))
    if "race" in found:
        console.print(target_table(found["race"]))
    with locked_folder(out.absolute()):  # another comparison may end in it at the same time
        write_results(out, found, comparison)
    console.print(f"{out}: report.html, bench.json, timeline.json, speedup.png, timeline.png")
    if stopped is not None:
        raise stopped
