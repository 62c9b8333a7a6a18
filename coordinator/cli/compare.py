"""`errorcast compare`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.connection import Form, Format
from coordinator.cli.options import Blocks, DataDir, Epochs, Set, TaskName

Option = typer.Option


def compare(
    task: TaskName,
    methods: Annotated[
        str | None,
        Option(
            help="Any of: bp, bp-delayed, dfa, dfa-hops1, dfa-hops2, "
            "dfa-identity, dfa-sign, dkp, drtp, fdfa, local, shallow. Separate "
            "them by commas. Default: bp,dfa,shallow, or the methods of the sweep of --tuned."
        ),
    ] = None,
    seeds: Annotated[
        int, Option(help="Number of runs of each method; each run has its own seed.", min=1)
    ] = 3,
    tuned: Annotated[
        Path | None,
        Option(help="Folder of a sweep; each method trains with the best settings found there."),
    ] = None,
    alignment: Annotated[
        bool,
        Option(
            "--alignment",
            help="Also measure the cosine of each layer's update with the exact gradient.",
        ),
    ] = False,
    blocks: Blocks = None,
    epochs: Epochs = None,
    data_dir: DataDir = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        Option(
            help="Folder for the runs; finished runs in it are not repeated. Default: a new folder "
            "in runs/."
        ),
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """Train a task with several methods and seeds, and compare the test scores.

    The table shows the mean and the standard deviation over the seeds. The folder gets
    compare.json and compare.png, and alignment-METHOD.png with --alignment.

    Examples:
        errorcast compare digits
        errorcast compare digits --methods bp,dfa,dfa-identity --seeds 5 --alignment
    """
    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.method_comparison import compare_methods
    from coordinator.experiments.plots import draw_alignment, draw_comparison
    from coordinator.experiments.sweep.tuned import Tuned, read_tuned
    from coordinator.experiments.tables import alignment_table, method_table
    from coordinator.job.spec import from_flags, merge
    from coordinator.runs.folders import folder_of_runs
    from coordinator.runs.valid_json import json_text
    from dfa_core.atomic_file import write_atomically

    flags = {"blocks": blocks, "epochs": epochs, "data_dir": data_dir}
    given = from_flags(flags, set_)
    log = Terminal(stderr=True)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    found_best = Tuned({}, {}) if tuned is None else read_tuned(tuned, task, names, given)
    names = names or [*found_best.best] or ["bp", "dfa", "shallow"]
    settings = merge(found_best.shared, given)
    title = f"{task}, {seeds} seed(s){', each method tuned' if tuned else ''}"
    with folder_of_runs(out, "compare") as folder:
        rows = compare_methods(
            task, names, seeds, settings, folder, alignment, log.say, tuned=found_best.best
        )
        found = {"task": task, "settings": settings, "methods": [row.as_json() for row in rows]}
        found |= {"tuned": found_best.best} if tuned else {}
        text = json_text(found, indent=1)
        write_atomically(folder / "compare.json", text.encode())
        draw_comparison(rows, folder / "compare.png", title)
        aligned = [row for row in rows if row.alignment]
        for row in aligned:
            draw_alignment(row, folder / f"alignment-{row.method}.png", f"{title}: {row.method}")
    if form is Form.JSON:
        print(text)
        return
    console = Terminal()
    console.tables(method_table(rows, title), *map(alignment_table, aligned))
    console.command(f"folder: {folder}")
    console.say("  (compare.json, compare.png, and the runs)")
