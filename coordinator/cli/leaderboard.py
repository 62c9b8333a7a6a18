"""`errorcast leaderboard`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.connection import Form, Format
from coordinator.cli.options import DataDir

Option = typer.Option


def leaderboard(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Targets whose lines to run: fashion-mnist, tiny-shakespeare, nerf-lego, cora, "
            "movielens. Without any, the page is made anew."
        ),
    ] = None,
    methods: Annotated[
        str | None, Option(help="Contenders to run, such as dfa-identity,pipeline; default: all.")
    ] = None,
    folder: Annotated[
        Path, Option("--dir", help="Folder of the result files; the page is beside it.")
    ] = Path("leaderboard"),
    targets_file: Annotated[
        Path | None, Option("--targets", help="A YAML file with targets of your own.")
    ] = None,
    again: Annotated[
        bool, Option("--again", help="Run lines again that are there already.")
    ] = False,
    data_dir: DataDir = None,
    form: Format = Form.TEXT,
) -> None:
    """Train every contender to a test score, and make the board of who was first.

    A line that is there already is not run again, and an interrupted one goes on. Writes a JSON
    file a line into the folder, and the page FOLDER.md.
    """
    import shlex
    import sys

    from rich.console import Console

    from coordinator.experiments.leaderboard.board import Line, lines_of, run_lines
    from coordinator.experiments.leaderboard.page import GUIDE, headline, page, tables
    from coordinator.experiments.leaderboard.result import Results
    from coordinator.experiments.leaderboard.targets import OURS, chosen, read_targets
    from coordinator.experiments.tables import board_table
    from coordinator.job.spec import given
    from coordinator.runs.folders import locked_folder
    from coordinator.runs.valid_json import json_text
    from dfa_core.atomic_file import write_atomically

    log = Console(file=sys.stderr, soft_wrap=True)
    known = read_targets(targets_file or OURS)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    asked = lines_of(chosen(known, targets or []), names) if targets else []
    results = Results(folder)

    def command(line: Line) -> str:
        own = ["--targets", str(targets_file)] if targets_file else []
        words = ["leaderboard", line.name, "--methods", line.entrant.name, "--dir", str(folder)]
        return shlex.join(["errorcast", *words, *own])

    def write_page() -> None:
        guide = GUIDE if (folder.parent / GUIDE).is_file() else ""
        text = page(tables(known, results), folder.name, guide)
        write_atomically(folder.with_name(f"{folder.name}.md"), text.encode())

    def report(text: str) -> None:
        log.print(text, markup=False, highlight=False)

    with locked_folder(folder.absolute()):
        try:
            run_lines(asked, results, given({"data_dir": data_dir}), again, command, report)
        except KeyboardInterrupt:
            report("stopped; the same command goes on")
            raise
        finally:
            write_page()
    found = tables(known, results)
    if form is Form.JSON:
        print(json_text([table.as_json() for table in found]))
        return
    console = Console()
    for table in found:
        console.print(board_table(table))
    console.print(headline(found))
    console.print(f"page: {folder}.md", soft_wrap=True, highlight=False)
