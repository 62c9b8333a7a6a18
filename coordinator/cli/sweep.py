"""`errorcast sweep`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.connection import Form, Format
from coordinator.cli.options import BatchSize, DataDir, Epochs, RayAddress, Set

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.sweep.record import Sweep
    from coordinator.experiments.sweep.sweeping import Sweeping

Option = typer.Option


def sweep(
    task: Annotated[
        str,
        typer.Argument(
            help="Name of a task (`errorcast tasks` lists them), path/to/mytask.py:function, or "
            "with --resume the folder of a sweep."
        ),
    ],
    over: Annotated[
        list[str] | None,
        Option(
            "--over",
            help="Field to search and its range: optimizer.lr=1e-4..1e-2:log (log-uniform), "
            "batch_size=16..64 (uniform) or feedback.scale=0.3,1,3 (a choice). Repeatable.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        Option(help="Methods to tune, with the names of `errorcast compare`; default: dfa,bp."),
    ] = None,
    trials: Annotated[
        int | None, Option(help="Number of trials of each method; default: 20.", min=1)
    ] = None,
    seed: Annotated[
        int | None, Option(help="Seed of the values that the trials draw; default: 0.", min=0)
    ] = None,
    metric: Annotated[
        str | None,
        Option(
            help="Score that ranks the trials: loss (the lowest is best) or a metric of the task "
            "(the highest is best)."
        ),
    ] = None,
    grace: Annotated[
        int | None,
        Option(
            help="Number of epochs before the first comparison; default: a fifth of all.", min=1
        ),
    ] = None,
    reduction: Annotated[
        int | None,
        Option(help="After a comparison, one trial in this many continues; default: 3.", min=2),
    ] = None,
    blocks: Annotated[
        int | None,
        Option(help="Number of blocks of each trial; default: a trial is one process.", min=1),
    ] = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    data_dir: DataDir = None,
    set_: Set = None,
    folder: Annotated[
        Path | None, Option("--dir", help="Folder of the sweep; default: a new folder in sweeps/.")
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue an interrupted sweep, or add trials to it.")
    ] = False,
    ray_address: RayAddress = None,
    form: Format = Form.TEXT,
) -> None:
    """Search for the best settings of a task, with the same number of trials for each method.

    Worse trials are stopped early (ASHA, on Ray Tune). The folder gets sweep.json, sweep.png and
    for each method a job file with its best settings, best-METHOD.yaml.

    Examples:
        errorcast sweep digits --over optimizer.lr=1e-4..1e-2:log --trials 8
        errorcast sweep sweeps/my-sweep --resume
    """
    from coordinator.cli.terminal import Terminal

    log = Terminal(stderr=True)
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
    log: "Terminal",
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
    log: "Terminal",
) -> None:
    from coordinator.experiments.sweep.record import SweepFolder
    from coordinator.experiments.sweep.sweeping import Sweeping
    from coordinator.runs.folders import folder_of_runs
    from dfa_core import JobError

    for name, value in asked.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise JobError(f"{flag}: the sweep in {folder} has its own; remove {flag}")
    SweepFolder(folder.absolute()).read()  # before a folder is made for the lock
    with folder_of_runs(folder, folder.name) as path:
        _run(Sweeping.resumed(path, trials, _tell), ray_address, form, log)


def _tell(line: str) -> None:
    from coordinator.cli.warnings import show_warnings

    show_warnings([line])


def _run(sweeping: "Sweeping", ray_address: str | None, form: Form, log: "Terminal") -> None:
    from coordinator.cli.terminal import Terminal
    from coordinator.experiments.sweep.record import text_of
    from coordinator.experiments.sweep.tables import best_lines, progress_line, trial_table

    sweep, folder = sweeping.sweep, sweeping.folder
    with log.working("starting Ray") as status:
        shown = _Progress(sweep, log, lambda text: status.update(log.still(text)))
        ended = sweeping.run(ray_address, shown)
    if not ended:
        log.say(f"stopped: {progress_line(sweep)}")
        log.say("continue with:")
        log.command(f"  errorcast sweep {quote(str(folder.path))} --resume")
        raise typer.Exit(130)
    if form is Form.JSON:
        print(text_of(sweep), end="")
        return
    console = Terminal()
    console.print(trial_table(sweep))
    for line in best_lines(sweep, folder):
        console.command(line)
    console.command(f"folder: {folder.path}")
    console.say("  (sweep.json, sweep.png, and the runs of the trials)")


class _Progress:
    """Prints a line about each trial that ends, and keeps a line about all."""

    def __init__(self, sweep: "Sweep", log: "Terminal", update: "Callable[[str], None]") -> None:
        self._sweep, self._log, self._update = sweep, log, update
        self._shown = {(trial.name, trial.state) for trial in sweep.trials}

    def __call__(self) -> None:
        """Show what has changed."""
        from coordinator.experiments.sweep.tables import ended_line, progress_line

        for trial in self._sweep.trials:
            if (trial.name, trial.state) not in self._shown:  # one that finished may be stopped
                self._shown.add((trial.name, trial.state))
                line = ended_line(self._sweep, trial)
                self._log.say(line)
        self._update(progress_line(self._sweep))
