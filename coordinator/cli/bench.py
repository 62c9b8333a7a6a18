"""`errorcast bench`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import BatchSize, DataDir, Layers, RayAddress, Set, TaskName, Width

if TYPE_CHECKING:
    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.bench import Bench
    from coordinator.experiments.race import Target
    from coordinator.job.resolve import Job
    from coordinator.job.spec import Settings

Option = typer.Option


def bench(
    task: TaskName = "mlp",
    blocks: Annotated[
        str | None, Option(help="Number of workers that errorcast and each peer get.")
    ] = None,
    workers: Annotated[
        int | None,
        Option(
            help="Number of workers, instead of --blocks; errorcast chooses its fastest number of "
            "blocks and heads.",
            min=1,
        ),
    ] = None,
    microbatches: Annotated[
        str, Option(help="Numbers of microbatches to try; each side uses its best one.")
    ] = "2,4,8",
    batch_size: BatchSize = None,
    width: Width = None,
    layers: Layers = None,
    data_dir: DataDir = None,
    set_: Set = None,
    rounds: Annotated[
        int, Option(help="Number of rounds; in each round all sides take turns.", min=1)
    ] = 4,
    steps: Annotated[int, Option(help="Number of steps of each side in a round.", min=1)] = 3,
    compiled: Annotated[
        bool, Option("--compiled", help="Also measure peers with layers compiled by torch.compile.")
    ] = False,
    report_md: Annotated[
        bool,
        Option("--report-md", help="Also write a Markdown report, MODEL_HARDWARE_DATE.md."),
    ] = False,
    every: Annotated[
        bool, Option("--all", help="Show all numbers of microbatches, not only the best.")
    ] = False,
    to_accuracy: Annotated[
        float | None,
        Option(help="Also train errorcast and the best pipeline to this test accuracy, in %."),
    ] = None,
    to_loss: Annotated[float | None, Option(help="The same for a test loss.")] = None,
    pipeline_set: Annotated[
        list[str] | None, Option(help="Like --set, for the pipeline only.")
    ] = None,
    out: Annotated[Path, Option(help="Folder for the results.")] = Path("bench"),
    resume: Annotated[
        bool, Option("--resume", help="Continue the comparison in the folder of --out.")
    ] = False,
    ray_address: RayAddress = None,
) -> None:
    """Measure a training step of errorcast and of pipeline backpropagation on the same workers.

    The folder gets a report (report.html), the figures (bench.json) and a timeline of each side
    (timeline.json), which Perfetto opens.

    Examples:
        errorcast bench mlp --blocks 2 --width 256 --layers 8
        errorcast bench fashion-mnist --blocks 2 --to-accuracy 85
    """
    import shlex
    import sys

    from rich.progress import Progress

    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.bench import Bench
    from coordinator.experiments.bench_folder import BenchFolder
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import from_flags, given, merge, whole_numbers
    from coordinator.runs.folders import locked_folder
    from dfa_core import JobError

    flags: dict[str, Any] = {
        "blocks": blocks,
        "batch_size": batch_size,
        "data_dir": data_dir,
        "options": given({"width": width, "layers": layers}),
    }
    tried = whole_numbers("microbatches", microbatches)
    folder, console = BenchFolder(out), Terminal()
    shape = folder.earlier().shape() if resume else None
    settings = _settings(task, from_flags(flags, set_), tried, workers, shape)
    job = resolve(task, settings)
    peer = resolve(task, merge(settings, from_flags({}, pipeline_set)))
    target = _target(job, peer, to_accuracy, to_loss)
    if job.task.fetch is not None:
        job.task.fetch()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"--out {out} cannot be written: {error}") from error
    shown = Progress(console=console, transient=True, disable=not console.is_live)
    with locked_folder(out.absolute()), shown as bars:
        bar = bars.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total)

        earlier = folder.earlier() if resume else None
        command = shlex.join(["errorcast", *sys.argv[1:]])
        comparison = Bench(job, tried, folder, command, progress, compiled, earlier, ray_address)
        aside = None if resume else folder.set_aside()
        if aside is not None:
            console.say(f"the earlier comparison in {out} was moved to {aside}")

        def show() -> None:
            bars.stop()
            _show(console, comparison, every)
            comparison.write()
            if report_md:
                console.command(f"{comparison.write_report_md()}")

        comparison.run(rounds, steps, target, show)
    console.say(f"{out}: report.html, bench.json, timeline.json, speedup.png, timeline.png")
    if comparison.stopped is not None:
        console.say("continue with:")
        console.command(f"  {command}{'' if resume else ' --resume'}")
        raise comparison.stopped


def _show(console: "Terminal", comparison: "Bench", every: bool) -> None:
    from coordinator.experiments.tables import bench_table, target_table
    from dfa_speedup.results.headline import headline

    found = comparison.results()
    console.say(headline(found))
    console.print(bench_table(found, every))
    if "race" in found:
        console.print(target_table(found["race"]))


def _settings(
    task: str,
    given: "Settings",
    microbatches: Sequence[int],
    workers: int | None,
    shape: "Settings | None",
) -> "Settings":
    """Return the settings of errorcast's job; shape: that of the comparison to continue."""
    from coordinator.job.spec import merge
    from coordinator.planning.for_workers import one_pipeline_of

    settings = merge(given, {"microbatches": microbatches[0]})
    if workers is None:
        return settings
    return merge(settings, shape or one_pipeline_of(workers, task, settings))


def _target(
    job: "Job", peer: "Job", to_accuracy: float | None, to_loss: float | None
) -> "Target | None":
    """Return what both sides are trained to, or None if only the time of a step is measured."""
    from coordinator.experiments.race import Target

    if to_accuracy is None and to_loss is None:
        return None
    score, bound = ("loss", to_loss) if to_accuracy is None else ("accuracy", to_accuracy / 100)
    target = Target(score, bound or 0.0, peer)
    target.check(job)
    return target
