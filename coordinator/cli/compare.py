"""`errorcast compare`."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def compare(
    task: Annotated[str, typer.Argument(help="A task (see `errorcast tasks`), or a file's.")],
    methods: Annotated[
        str, Option(help="Which, of: bp, dfa, dfa-identity, dfa-sign, dkp, drtp, shallow.")
    ] = "bp,dfa,shallow",
    seeds: Annotated[int, Option(help="Runs of each method.", min=1)] = 3,
    alignment: Annotated[
        bool, Option("--alignment", help="Also each layer's cosine with the exact gradient.")
    ] = False,
    blocks: Annotated[str | None, Option(help="Layer blocks of the dfa methods.")] = None,
    epochs: Annotated[str | None, Option(help="Passes over the training data.")] = None,
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any field of the job.")] = None,
    out: Annotated[
        Path | None, Option(help="Folder of the runs; finished ones in it are not run again.")
    ] = None,
    form: Annotated[str, Option("--format", help="text or json.")] = "text",
) -> None:
    """Train a task by several methods and seeds: mean and standard deviation of the test scores.

    Writes compare.json and compare.png into the folder, with --alignment also alignment-METHOD.png.
    """
    import json
    import sys
    import time

    from rich.console import Console

    from coordinator.experiments.method_comparison import compare_methods as train_all
    from coordinator.experiments.plots import draw_alignment, draw_comparison
    from coordinator.experiments.tables import alignment_table, method_table
    from coordinator.job.spec import assignment, given, merge
    from dfa_core import JobError

    if form not in ("text", "json"):
        raise JobError(f"--format: '{form}' must be text or json")
    folder = (out or Path("runs") / f"compare-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    flags = {"blocks": blocks, "epochs": epochs, "data_dir": data_dir}
    settings = merge(given(flags), *(assignment(text) for text in set_ or []))
    told = Console(file=sys.stderr)
    names = [name.strip() for name in methods.split(",")]
    rows = train_all(task, names, seeds, settings, folder, alignment, told.print)
    title = f"{task}, {seeds} seed(s)"
    found = {"task": task, "settings": settings, "methods": [row.as_json() for row in rows]}
    text = json.dumps(found, indent=1)
    (folder / "compare.json").write_text(text, encoding="utf-8")
    draw_comparison(rows, folder / "compare.png", title)
    aligned = [row for row in rows if row.alignment]
    for row in aligned:
        draw_alignment(row, folder / f"alignment-{row.method}.png", f"{title}: {row.method}")
    if form == "json":
        print(text)
        return
    console = Console()
    console.print(method_table(rows, title))
    for row in aligned:
        console.print(alignment_table(row))
    console.print(f"folder: {folder} (compare.json, compare.png, and the runs)")
