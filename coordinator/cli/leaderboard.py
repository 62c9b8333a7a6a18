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
            help="Targets to measure: fashion-mnist, tiny-shakespeare, nerf-lego, cora, movielens. "
            "Without a target nothing is measured, and the page is written again from the results."
        ),
    ] = None,
    methods: Annotated[
        str | None, Option(help="Methods to measure, such as dfa-identity,pipeline; default: all.")
    ] = None,
    folder: Annotated[
        Path,
        Option("--dir", help="Folder with the result files; the page FOLDER.md is next to it."),
    ] = Path("leaderboard"),
    targets_file: Annotated[
        Path | None, Option("--targets", help="YAML file with your own targets.")
    ] = None,
    again: Annotated[
        bool, Option("--again", help="Also measure what has a result already.")
    ] = False,
    data_dir: DataDir = None,
    form: Format = Form.TEXT,
) -> None:
    """Measure how long each method trains to reach a test score, and show who is first.

    A result that is there already is not measured again, and an interrupted measurement continues.
    The folder gets one JSON file for each line of the board, and the page FOLDER.md.

    Examples:
        errorcast leaderboard cora --methods dfa,bp
        errorcast leaderboard --dir docs/leaderboard
    """
    import shlex

    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.leaderboard.board import Line, lines_of, run_lines
    from coordinator.experiments.leaderboard.page import GUIDE, headline, page, tables
    from coordinator.experiments.leaderboard.result import Results
    from coordinator.experiments.leaderboard.targets import OURS, chosen, read_targets
    from coordinator.experiments.tables import board_table
    from coordinator.job.spec import given
    from coordinator.runs.folders import locked_folder
    from coordinator.runs.valid_json import json_text
    from dfa_core.atomic_file import write_atomically

    log = Terminal(stderr=True)
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

    with locked_folder(folder.absolute()):
        try:
            run_lines(asked, results, given({"data_dir": data_dir}), again, command, log.say)
        except KeyboardInterrupt:
            log.say("stopped; run the same command again to continue")
            raise
        finally:
            write_page()
    found = tables(known, results)
    if form is Form.JSON:
        print(json_text([table.as_json() for table in found]))
        return
    console = Terminal()
    console.tables(*map(board_table, found))
    console.print()
    console.say(headline(found))
    console.command(f"page: {folder}.md")
