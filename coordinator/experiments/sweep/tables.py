"""A sweep as a table, and as the lines that say how it goes."""

from shlex import quote
from typing import Any

from coordinator.experiments.sweep.record import Sweep, SweepFolder, Trial
from coordinator.experiments.text.layout import Column
from coordinator.experiments.text.table import TextTable

_LONGEST = 72


def trial_table(sweep: Sweep) -> TextTable:
    """Return all trials: method by method, the best first; below it, why trials failed."""
    definition = sweep.definition
    fields = [*definition.ranges]
    rows = [_row(sweep, trial, fields) for trial in sweep.ranked()]
    failed = [trial for trial in sweep.trials if trial.state == "failed"]
    numbers = (definition.metric, "epochs")
    return TextTable(
        title=f"{definition.task.rpartition('/')[2]}, {definition.settings['epochs']} epochs",
        columns=[
            Column("trial", key=True),
            *(Column(name, right=True) for name in numbers),
            Column("how it ended"),
            *(Column(field, right=True) for field in fields),
        ],
        rows=rows,
        notes=[
            _compared(definition.halving.rungs),
            *(f"{trial.name}: {trial.failed}" for trial in failed),
        ],
    )


def _compared(rungs: list[int]) -> str:
    if not rungs:
        return "all trials were trained to their end"
    return f"the trials of a method were compared after epoch {', '.join(map(str, rungs))}"


def _row(sweep: Sweep, trial: Trial, fields: list[str]) -> list[str]:
    best = trial is sweep.best(trial.method)
    score = "" if trial.score is None else f"{trial.score:.4f}"
    ended = f"{trial.state}{', the best' if best else ''}"
    values = [value_text(trial.values[f]) if f in trial.values else "-" for f in fields]
    return [trial.name, score, str(len(trial.scores)), ended, *values]


def value_text(value: Any) -> str:
    """Return a value as it is shown."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return f"{value:g}" if isinstance(value, float) else str(value)


def ended_line(sweep: Sweep, trial: Trial) -> str:
    """Return one line of at most 80 columns about a trial that has ended."""
    if trial.state == "failed":
        text = f"{trial.name}: failed: {trial.failed}"
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    how = "stopped" if trial.state == "stopped" else "finished"
    return (
        f"{trial.name}: {how} after {len(trial.scores)} epoch(s), {sweep.definition.metric} "
        f"{trial.score:.4f}"
    )


def progress_line(sweep: Sweep) -> str:
    """Return one line about the sweep so far."""
    count = dict.fromkeys(("finished", "stopped", "failed"), 0)
    for trial in sweep.trials:
        if trial.state != "waiting":
            count[trial.state] += 1
    ended = ", ".join(f"{n} {state}" for state, n in count.items())
    best = ((method, sweep.best(method)) for method in sweep.definition.methods)
    scores = ", ".join(f"{method} {trial.score:.4f}" for method, trial in best if trial)
    return f"{len(sweep.trials)} trials: {ended}" + (f"; best: {scores}" if scores else "")


def best_lines(sweep: Sweep, folder: SweepFolder) -> list[str]:
    """Return a line about each method's best settings, and how to train with them."""
    lines = []
    for method in sweep.definition.methods:
        best = sweep.best(method)
        if best is None:
            lines.append(
                f"{method}: no trial was trained to its end; add some with errorcast sweep "
                f"{quote(str(folder.path))} --resume --trials {2 * sweep.definition.trials}"
            )
            continue
        test = "  ".join(f"{name} {value:.4f}" for name, value in best.test.items())
        lines.append(f"best {method}: {best.name}, {sweep.definition.metric} {best.score:.4f}")
        lines.append(f"  on the test data: {test}")
        lines.append(f"  errorcast train {quote(str(folder.best_job(method)))}")
    return lines
