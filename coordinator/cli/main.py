"""`errorcast`: gathers the verbs, and turns every error into one line and an exit code.

Exit codes: 0 done; 1 the run failed on its way, its state is saved; 2 the job cannot run as given;
130 stopped with Ctrl-C, its state is saved.
"""

import sys
import traceback

import typer

from coordinator.cli.bench import bench
from coordinator.cli.evaluate import evaluate
from coordinator.cli.export import export
from coordinator.cli.plan import plan
from coordinator.cli.tasks import tasks
from coordinator.cli.train import train

app = typer.Typer(
    help="Trains neural networks without a backward pass: Direct Feedback Alignment, one layer "
    "block in each worker.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(evaluate)
app.command()(export)
app.command()(tasks)
app.command()(bench)
app.command()(plan)


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
    try:
        code = app(standalone_mode=False)
    except typer.Abort as error:
        code = _show(error, "stopped", 130)
    except Exception as error:  # noqa: BLE001
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Print one line about an error and return the exit code; raise what nobody foresaw."""
    from dfa_core.errors import JobError, TrainingFailed

    if isinstance(error, JobError):
        return _show(error, str(error), 2)
    if isinstance(error, TrainingFailed | OSError):
        return _show(error, str(error), 1)
    # a misspelt verb or flag: typer keeps the class of these errors to itself
    usage = getattr(error, "format_message", None)
    if usage is None:
        raise error
    return _show(error, " ".join(usage().split()), 2)


def _show(error: Exception, line: str, code: int) -> int:
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    print(f"errorcast: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
