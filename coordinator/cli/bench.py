"""`errorcast bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer

Option = typer.Option


def bench(
    task: Annotated[
        str, typer.Argument(help="A task (see `errorcast tasks`) or path/to/mytask.py:function.")
    ] = "mlp",
    blocks: Annotated[str | None, Option(help="Workers of every side.")] = None,
    microbatches: Annotated[str, Option(help="Numbers to try; each side takes its best.")] = (
        "2,4,8"
    ),
    batch_size: Annotated[str | None, Option(help="Samples a step.")] = None,
    width: Annotated[int | None, Option(help="The task's option `width`.")] = None,
    layers: Annotated[int | None, Option(help="The task's option `layers`.")] = None,
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any field of the job.")] = None,
    rounds: Annotated[int, Option(help="Alternations of all sides.", min=1)] = 4,
    steps: Annotated[int, Option(help="Steps of a side in a round.", min=1)] = 3,
    every: Annotated[bool, Option("--all", help="Show every number of microbatches.")] = False,
    to_accuracy: Annotated[
        float | None, Option(help="Also train to this test accuracy, %: errorcast, best pipeline.")
    ] = None,
    to_loss: Annotated[float | None, Option(help="The same to a test loss.")] = None,
    pipeline_set: Annotated[
        list[str] | None, Option(help="Like --set, for what that pipeline trains to it.")
    ] = None,
    out: Annotated[Path, Option(help="Folder of the results.")] = Path("bench"),
    ray_address: Annotated[str | None, Option(help="Of a Ray cluster to join, or auto.")] = None,
) -> None:
    """Measure a step against pipeline backpropagation, on the same workers, in the same run."""
    import shlex
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from coordinator.experiments.bench import measure, write_results
    from coordinator.experiments.tables import bench_table, target_table
    from coordinator.experiments.time_to_target import time_to_target
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import assignment, given, merge, whole_numbers
    from dfa_core import JobError
    from dfa_speedup.peers import ERRORCAST

    flags: dict[str, Any] = {
        "blocks": blocks,
        "batch_size": batch_size,
        "data_dir": data_dir,
        "options": given({"width": width, "layers": layers}),
    }
    tried = whole_numbers("microbatches", microbatches)
    settings = merge(
        given(flags), *(assignment(text) for text in set_ or []), {"microbatches": tried[0]}
    )
    job = resolve(task, settings)
    peer = resolve(task, merge(settings, *(assignment(text) for text in pipeline_set or [])))
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
        if to_accuracy is not None or to_loss is not None:
            progress("training to the target", 0, 1)
            score, bound = ("loss", to_loss) if to_accuracy is None else ("accuracy", to_accuracy)
            ours, pipeline = comparison.best(ERRORCAST), comparison.best_pipeline()
            if pipeline is None:
                raise JobError("no pipeline could run, so there is none to race against")
            found["race"] = time_to_target(
                job,
                peer,
                comparison.workload.profile,
                ours.configuration.microbatches,
                pipeline.configuration,
                score,
                float(bound or 0) / (100 if score == "accuracy" else 1),
                ray_address,
            )
    found["command"] = shlex.join(["errorcast", *sys.argv[1:]])
    console.print(bench_table(found, every))
    if "race" in found:
        console.print(target_table(found["race"]))
    write_results(out, found, comparison)
    console.print(f"{out}: report.html, bench.json, timeline.json, speedup.png, timeline.png")
