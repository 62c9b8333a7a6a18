"""`errorcast sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.connection import Form, Format
from coordinator.cli.options import BatchSize, DataDir, Epochs, RayAddress, Set

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from coordinator.experiments.sweep.record import Sweep
    from coordinator.experiments.sweep.sweeping import Sweeping

Option = typer.Option


def sweep(
    task: Annotated[
        str,
        typer.Argument(
            help="A task (see `errorcast tasks`), path/to/mytask.py:function, or with --resume the "
            "folder of a sweep."
        ),
    ],
    over: Annotated[
        list[str] | None,
        Option(
            "--over",
            help="A field and its range: optimizer.lr=1e-4..1e-2:log (log-uniform), "
            "batch_size=16..64 (uniform) or feedback.scale=0.3,1,3 (a choice). Repeatable.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        Option(help="Methods to tune, named as in `errorcast compare`; default: dfa,bp."),
    ] = None,
    trials: Annotated[
        int | None, Option(help="Number of trials of each method; default: 20.", min=1)
    ] = None,
    seed: Annotated[
        int | None, Option(help="Seed of the values that are drawn; default: 0.", min=0)
    ] = None,
    metric: Annotated[
        str | None,
        Option(
            help="What trials are compared by: loss (lowest) or a metric of the task (highest)."
        ),
    ] = None,
    grace: Annotated[
        int | None,
        Option(help="Epochs before trials are first compared; default: a fifth.", min=1),
    ] = None,
    reduction: Annotated[
        int | None, Option(help="One in so many goes on after a comparison; default: 3.", min=2)
    ] = None,
    blocks: Annotated[
        int | None,
        Option(help="Train each trial on so many blocks; default: in one process.", min=1),
    ] = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    data_dir: DataDir = None,
    set_: Set = None,
    folder: Annotated[
        Path | None, Option("--dir", help="Folder of the sweep; default: a new one in sweeps/.")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Continue a sweep that was ended.")] = False,
    ray_address: RayAddress = None,
    form: Format = Form.TEXT,
) -> None:
    """Search the best settings of a task for each method, with as many trials for each.

    Stops the worse trials early (ASHA, on Ray Tune). Writes sweep.json, sweep.png and a job file
    for the best settings of each method, best-METHOD.yaml, into the folder.
    """
    import sys

    from rich.console import Console

    log = Console(file=sys.stderr, soft_wrap=True)
    of_new = {
        "over": over,
        "method": method,
        "seed": seed,
        "metric": metric,
        "grace": grace,
        "reduction": reduction,
        "blocks": blocks,
        "batch_size": batch_size,
        "epochs": epochs,
        "data_dir": data_dir,
        "set": set_,
    }
    _check_installed()
    if resume:
        _resume(folder or Path(task), of_new, trials, ray_address, form, log)
    else:
        _begin(task, folder, of_new, trials, ray_address, form, log)


def _check_installed() -> None:
    """Raise JobError if Ray Tune cannot be imported."""
    from dfa_core import JobError

    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or "some of its packages"
        raise JobError(
            f"a sweep runs on Ray Tune, and {missing} is missing: pip install 'errorcast[sweep]'"
        ) from error


def _begin(
    task: str,
    folder: Path | None,
    asked: dict[str, Any],
    trials: int | None,
    ray_address: str | None,
    form: Form,
    log: "Console",
) -> None:
    from coordinator.experiments.sweep.beginning import Wanted, begin
    from coordinator.experiments.sweep.sweeping import Sweeping
    from coordinator.job.spec import from_flags
    from coordinator.runs.folders import folder_of_runs

    flags = {name: asked[name] for name in ("blocks", "batch_size", "epochs", "data_dir")}
    wanted = Wanted(
        task,
        from_flags(flags, asked["set"]),
        [name.strip() for name in (asked["method"] or "dfa,bp").split(",")],
        asked["over"] or [],
        trials or 20,
        asked["seed"] or 0,
        asked["metric"],
        asked["grace"],
        asked["reduction"] or 3,
        asked["blocks"] is not None,
    )
    stem = Path(task.rpartition(":")[2] or task).stem
    begun, job = begin(wanted, _tell)
    with folder_of_runs(folder, stem, "sweeps") as path:
        _run(Sweeping.new(path, begun, job), ray_address, form, log)


def _resume(
    folder: Path,
    asked: dict[str, Any],
    trials: int | None,
    ray_address: str | None,
    form: Form,
    log: "Console",
) -> None:
    from coordinator.experiments.sweep.record import SweepFolder
    from coordinator.experiments.sweep.sweeping import Sweeping
    from coordinator.runs.folders import folder_of_runs
    from dfa_core import JobError

    for name, value in asked.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise JobError(f"{flag}: the sweep in {folder} has its own; leave it out")
    SweepFolder(folder.absolute()).read()  # before a folder is made for the lock
    with folder_of_runs(folder, folder.name) as path:
        _run(Sweeping.resumed(path, trials, _tell), ray_address, form, log)


def _tell(line: str) -> None:
    from coordinator.cli.warnings import show_warnings

    show_warnings([line])


def _run(sweeping: "Sweeping", ray_address: str | None, form: Form, log: "Console") -> None:
    from rich.console import Console

    from coordinator.experiments.sweep.record import text_of
    from coordinator.experiments.sweep.tables import best_lines, progress_line, trial_table

    sweep, folder = sweeping.sweep, sweeping.folder
    with log.status("starting Ray") as status:
        ended = sweeping.run(ray_address, _Progress(sweep, log, status.update))
    if not ended:
        log.print(f"stopped: {progress_line(sweep)}", markup=False, highlight=False)
        log.print(f"continue with: errorcast sweep {folder.path} --resume", highlight=False)
        raise typer.Exit(130)
    if form is Form.JSON:
        print(text_of(sweep), end="")
        return
    console = Console()
    console.print(trial_table(sweep))
    for line in best_lines(sweep, folder):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"folder: {folder.path} (sweep.json, sweep.png, and the runs of the trials)",
        soft_wrap=True,
        highlight=False,
    )


class _Progress:
    """Prints a line about each trial that ends, and keeps a line about all."""

    def __init__(self, sweep: "Sweep", log: "Console", update: "Callable[[str], None]") -> None:
        self._sweep, self._log, self._update = sweep, log, update
        self._shown = {(trial.name, trial.state) for trial in sweep.trials}

    def __call__(self) -> None:
        """Show what has changed."""
        from coordinator.experiments.sweep.tables import ended_line, progress_line

        for trial in self._sweep.trials:
            if (trial.name, trial.state) not in self._shown:  # one that finished may be stopped
                self._shown.add((trial.name, trial.state))
                line = ended_line(self._sweep, trial)
                self._log.print(line, markup=False, highlight=False)
        self._update(progress_line(self._sweep))
