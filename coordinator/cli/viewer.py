"""Shows a run on a terminal: the plan, a progress bar, evaluations, and a table at the end."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from coordinator.training.events import (
    Evaluation,
    Event,
    Noted,
    Notice,
    PlanMade,
    Progress,
    Resumed,
)

_MUCH = 0.1  # of its time, that a run waited for data


class TerminalViewer:
    """Follows one run on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = bars.Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:,.0f} samples/s  left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bar: TaskID | None = None
        self._began = (0, 0.0)

    def __enter__(self) -> "TerminalViewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def event(self, event: Event) -> None:
        """Print an event that people want to see."""
        with suppress(OSError):  # a closed terminal must not end the run
            self._print(event)

    def _print(self, event: Event) -> None:
        match event:
            case PlanMade():
                self._console.print(plan_table(event.layers))
                self._console.print(f"links: {event.links}")
            case Resumed() | Noted():
                self._console.print(event.message)
            case Evaluation():
                self._console.print(evaluation_line(event))
            case _ if isinstance(event, Notice):
                self._console.print(event.message, style="yellow")

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        now = monotonic()
        if self._bar is None:
            self._began = (progress.samples, now)
            self._bars.start()
            self._bar = self._bars.add_task("", total=progress.total, loss=0.0, speed=0.0)
        samples, seconds = progress.samples - self._began[0], now - self._began[1]
        speed = samples / seconds if seconds > 0 else 0.0
        with suppress(OSError):
            self._bars.update(self._bar, completed=progress.step, loss=progress.loss, speed=speed)


def plan_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the partition as a table: layer, features, parameters, cost, block."""
    table = Table(title="layers and blocks")
    for name in ("layer", "features", "parameters", "cost, ms a microbatch", "block"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for row in rows:
        table.add_row(
            row["layer"],
            f"{row['features']:,}",
            f"{row['parameters']:,}",
            f"{row['cost_ms']:.2f}",
            str(row["block"]),
        )
    return table


def evaluation_line(event: Evaluation) -> str:
    """Return one line about an evaluation."""
    scores = "  ".join(f"{name} {value:.4f}" for name, value in event.scores.items())
    return f"epoch {event.epoch}/{event.epochs}  {event.data} {scores}"


def faults_line(summary: Mapping[str, Any]) -> str:
    """Return one line about what a run recovered from and what its snapshots cost."""
    faults, snapshots = summary["faults"], summary["snapshots"]
    line = f"{snapshots['taken']} snapshots, {snapshots['share_of_step']:.1%} of a step"
    if faults["recovered"]:
        line += (
            f"; recovered from {faults['recovered']} faults in {faults['seconds_lost']:.1f} s, "
            f"{faults['steps_repeated']} steps done again"
        )
    return line


def data_line(summary: Mapping[str, Any]) -> str:
    """Return one line about data that were too slow; empty where they were not."""
    share = summary["data"]["share"]
    if share < _MUCH:
        return ""
    return f"waited {share:.0%} of the time for data: raise resources.data_workers"


def throughput_text(summary: Mapping[str, Any]) -> str:
    """Return what else is known of a run's speed, ending with a comma: tokens, FLOP/s, MFU."""
    known = {
        "tokens_per_s": "{:,.0f} tokens/s, ",
        "gflops_per_s": "{:,.3g} GFLOP/s, ",
        "mfu": "MFU {:.1%}, ",
    }
    return "".join(form.format(summary[name]) for name, form in known.items() if name in summary)


def result_table(summary: Mapping[str, Any]) -> Table:
    """Return the result of a run: scores, step time, and how busy each process was."""
    scores = "  ".join(f"{name} {value:.4f}" for name, value in summary["metrics"].items())
    table = Table(
        title=f"test {scores}\nstep {summary['step_ms']:.2f} ms, "
        f"{summary['samples_per_s']:,.0f} samples/s, {throughput_text(summary)}"
        f"{summary['steps']} steps"
    )
    for name in ("process", "layers", "busy", "waiting", "bytes sent"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for row in summary["processes"]:
        table.add_row(
            row["process"],
            row["layers"],
            f"{row['busy']:.1%}",
            f"{row['waiting']:.1%}",
            f"{row['bytes_sent']:,}",
        )
    return table
