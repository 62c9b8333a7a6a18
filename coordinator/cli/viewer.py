"""Shows a run on a terminal: the plan, a progress bar, evaluations, and a table at the end."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from rich import progress as bars
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from coordinator.cli.epochs import EpochLines, Scored
from coordinator.cli.terminal import Terminal
from coordinator.experiments.text.layout import Column
from coordinator.experiments.text.table import TextTable
from coordinator.training.events import (
    Evaluation,
    Event,
    Failed,
    Finished,
    Noted,
    Notice,
    PlanMade,
    Progress,
    Resumed,
)

_MUCH = 0.1  # share of a run's time that it waited for data
_NARROW = 80  # columns below which the bar has no room for the speed


class TerminalViewer:
    """Follows one run on a terminal: a bar and the newest epoch move, other lines stay."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._bars = _Bars(console)
        self._bar: TaskID | None = None
        self._began = (0, 0.0)
        self._epochs = EpochLines()

    def __enter__(self) -> "TerminalViewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()
        with suppress(OSError):
            self._end()

    def event(self, event: Event) -> None:
        """Print an event that people want to see."""
        with suppress(OSError):  # a closed terminal must not end the run
            self._print(event)

    def _print(self, event: Event) -> None:
        match event:
            case PlanMade():
                self._console.print(plan_table(event.layers))
                self._console.say(f"links: {event.links}")
            case Resumed() | Noted():
                self._console.say(event.message)
            case Evaluation():
                self._evaluated(Scored(event.epoch, event.epochs, event.data, event.scores))
            case Finished() | Failed():
                self._end()
            case _ if isinstance(event, Notice):
                self._console.say(event.message, style="yellow")

    def _evaluated(self, one: Scored) -> None:
        stays = self._epochs.keeps(one)
        if stays:
            self._console.say(one.line)
        self._bars.newest = "" if stays else one.line

    def _end(self) -> None:
        self._bars.newest = ""
        for line in self._epochs.at_end():
            self._console.say(line)

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        now = monotonic()
        with suppress(OSError):
            if self._bar is None:
                self._began = (progress.samples, now)
                self._bars.start()
                self._bar = self._bars.add_task("", total=progress.total, loss=0.0, speed=0.0)
            samples, seconds = progress.samples - self._began[0], now - self._began[1]
            speed = samples / seconds if seconds > 0 else 0.0
            self._bars.update(self._bar, completed=progress.step, loss=progress.loss, speed=speed)


class _Bars(bars.Progress):
    """The bar of the steps; above it, the newest epoch if it has no line that stays."""

    newest = ""

    def __init__(self, console: Terminal) -> None:
        speed = "  {task.fields[speed]:,.0f} samples/s" if console.width >= _NARROW else ""
        super().__init__(
            TextColumn("step"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn(f"loss {{task.fields[loss]:.4f}}{speed}  left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_live,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield what is shown, from the top."""
        if self.newest:
            yield Text(self.newest)
        yield from super().get_renderables()


def plan_table(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return the partition as a table: layer, features, parameters, cost, block."""
    numbers = ("features", "parameters", "cost, ms a microbatch", "block")
    return TextTable(
        title="layers and blocks",
        columns=[Column("layer", key=True), *(Column(name, right=True) for name in numbers)],
        rows=[
            (
                row["layer"],
                f"{row['features']:,}",
                f"{row['parameters']:,}",
                f"{row['cost_ms']:.2f}",
                str(row["block"]),
            )
            for row in rows
        ],
    )


def faults_line(summary: Mapping[str, Any]) -> str:
    """Return one line about what a run recovered from and what its snapshots cost."""
    faults, snapshots = summary["faults"], summary["snapshots"]
    line = f"{snapshots['taken']} snapshots, {snapshots['share_of_step']:.1%} of a step"
    if faults["recovered"]:
        line += (
            f"; recovered from {faults['recovered']} fault(s) in {faults['seconds_lost']:.1f} s, "
            f"{faults['steps_repeated']} step(s) repeated"
        )
    return line


def data_line(summary: Mapping[str, Any]) -> str:
    """Return one line about data that were too slow; empty where they were not."""
    share = summary["data"]["share"]
    if share < _MUCH:
        return ""
    return f"waited {share:.0%} of the time for data: raise resources.data_workers"


def throughput_text(summary: Mapping[str, Any]) -> str:
    """Return tokens, FLOP/s and MFU, where they are known; the text ends with a comma."""
    known = {
        "tokens_per_s": "{:,.0f} tokens/s, ",
        "gflops_per_s": "{:,.3g} GFLOP/s, ",
        "mfu": "MFU {:.1%}, ",
    }
    return "".join(form.format(summary[name]) for name, form in known.items() if name in summary)


def result_table(summary: Mapping[str, Any]) -> TextTable:
    """Return the result of a run: scores, step time, and how busy each process was."""
    scores = "  ".join(f"{name} {value:.4f}" for name, value in summary["metrics"].items())
    numbers = ("layers", "busy", "waiting", "bytes sent")
    return TextTable(
        title=f"test {scores}\nstep {summary['step_ms']:.2f} ms, "
        f"{summary['samples_per_s']:,.0f} samples/s, {throughput_text(summary)}"
        f"{summary['steps']} steps",
        columns=[Column("process", key=True), *(Column(name, right=True) for name in numbers)],
        rows=[
            (
                row["process"],
                row["layers"],
                f"{row['busy']:.1%}",
                f"{row['waiting']:.1%}",
                f"{row['bytes_sent']:,}",
            )
            for row in summary["processes"]
        ],
    )
