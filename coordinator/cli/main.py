"""`errorcast`: collects the verbs, and turns every error into one line and an exit code.

Exit codes: 0 done; 1 the run failed after its start, and its state is saved; 2 the job cannot run
as given; 130 stopped with Ctrl-C, SIGTERM or SIGHUP, and its state is saved.
"""

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

import typer

from coordinator.cli.bench import bench
from coordinator.cli.chaos import chaos
from coordinator.cli.compare import compare
from coordinator.cli.download import download, predict, timeline
from coordinator.cli.evaluate import evaluate
from coordinator.cli.export import export
from coordinator.cli.generate import generate
from coordinator.cli.jobs import job, jobs
from coordinator.cli.leaderboard import leaderboard
from coordinator.cli.plan import plan
from coordinator.cli.render import render
from coordinator.cli.serve import serve
from coordinator.cli.steer import cancel, delete, pause, resume, scale
from coordinator.cli.streams import (
    accept_all_text,
    honour_columns,
    keep_still_in_notebooks,
    reader_has_left,
)
from coordinator.cli.submit import submit
from coordinator.cli.summary import summary
from coordinator.cli.sweep import sweep
from coordinator.cli.tasks import tasks
from coordinator.cli.train import train
from coordinator.cli.tsne import tsne
from coordinator.cli.user import user
from coordinator.cli.watch import logs, watch
from coordinator.launch.interrupts import ended_as_by_ctrl_c

app = typer.Typer(
    help="Trains neural networks by Direct Feedback Alignment: each block of layers has its own "
    "worker, and all blocks learn at the same time, without a backward pass.",
    epilog="To begin: errorcast train digits\n\nHelp for a command: errorcast train --help",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
HERE: Mapping[str, Sequence[Callable[..., None]]] = {
    "Train a task": (train, tasks, summary),
    "Use a run": (evaluate, generate, render, tsne, export),
    "Compare and measure": (compare, sweep, bench, leaderboard, plan, chaos),
}
ON_A_SERVICE: Sequence[Callable[..., None]] = (
    *(serve, submit, jobs, job, watch, logs, pause, resume, scale, cancel, delete),
    *(download, predict, timeline, user),
)


def help_of(verb: Callable[..., None]) -> str:
    """Return a verb's docstring as the terminal can fold it: one line a paragraph.

    The indented lines of its examples stay as they are.
    """
    text = inspect.cleandoc(verb.__doc__ or "")
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)


for group, verbs in {**HERE, "Use a service": ON_A_SERVICE}.items():
    for verb in verbs:
        app.command(help=help_of(verb), rich_help_panel=group)(verb)


@app.callback()
def options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show stack traces."),  # noqa: ARG001
) -> None:
    """Trains neural networks without a backward pass."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line."""
    accept_all_text()
    honour_columns()
    keep_still_in_notebooks()
    try:
        with ended_as_by_ctrl_c():
            code = app(standalone_mode=False)
    except typer.Abort as error:
        code = _show(error, "stopped", 130)
    except Exception as error:  # noqa: BLE001
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Print one line about an error and return the exit code; raise unexpected errors again."""
    from dfa_core.errors import JobError, TrainingFailed

    if isinstance(error, BrokenPipeError) and reader_has_left():
        return 0  # such as `head`, which has read what it wanted
    if isinstance(error, JobError):
        return _show(error, str(error), 2)
    if isinstance(error, TrainingFailed | OSError):
        return _show(error, str(error), 1)
    # a misspelt verb or flag: typer does not export the class of these errors
    usage = getattr(error, "format_message", None)
    if usage is None:
        raise error
    return _show(error, " ".join(usage().split()), 2)


def _show(error: Exception, line: str, code: int) -> int:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    from coordinator.cli.terminal import Terminal

    Terminal(stderr=True).say(f"errorcast: {line}")
    return code


if __name__ == "__main__":
    main()
