"""`errorcast`: gathers the verbs, and turns every error into one line and an exit code.

Exit codes: 0 done; 1 the run failed on its way, its state is saved; 2 the job cannot run as given;
130 stopped with Ctrl-C, its state is saved.
"""

import sys
import traceback

import typer

from coordinator.cli.evaluate import evaluate
from coordinator.cli.export import export
from coordinator.cli.tasks import tasks
from coordinator.cli.train import train
from dfa_core.errors import JobError, TrainingFailed

app = typer.Typer(
    help="Trains neural networks without a backward pass: Direct Feedback Alignment, one layer "
    "block in each worker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(evaluate)
app.command()(export)
app.command()(tasks)


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show stack traces.")) -> None:
    """Trains neural networks without a backward pass."""


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (JobError, TrainingFailed, OSError) as error:
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        print(f"errorcast: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, JobError) else 1)


if __name__ == "__main__":
    main()
