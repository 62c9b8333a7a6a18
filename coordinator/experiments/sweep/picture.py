"""Draws a sweep: the score over each swept field, a colour a method."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from coordinator.experiments.sweep.ranges import Choice, Interval, Range
from coordinator.experiments.sweep.record import Sweep, Trial
from coordinator.experiments.sweep.tables import value_text

_COLUMNS = 3
_BESIDE = 0.4  # of the space of a value
_MARGIN = 0.04  # of a range
_FEW_DECADES = 100


def draw_sweep(sweep: Sweep, path: Path) -> None:
    """Draw every trial that has a score: filled if it was trained to its end, hollow if not.

    A star is the best of its method. Raises OSError when the picture cannot be written.
    """
    ranges = sweep.definition.ranges
    columns = min(_COLUMNS, len(ranges))
    rows = -(-len(ranges) // columns)
    figure = Figure(figsize=(1.5 + 4.5 * columns, 0.7 + 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    plots = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, (field, each) in zip(plots[: len(ranges)], ranges.items(), strict=True):
        for trial in sweep.trials:
            if field in trial.values and trial.score is not None and trial.state != "failed":
                _draw(axes, sweep, trial, _place(sweep, trial, field, each))
        axes.set_xlabel(field)
        axes.grid(alpha=0.3)
        _set_ticks(axes, each)
    for axes in plots[len(ranges) :]:
        axes.set_visible(False)
    for axes in figure.axes[::columns]:
        axes.set_ylabel(sweep.definition.metric)
    _explain(figure, sweep)
    figure.savefig(path, dpi=110)


def _draw(axes: Any, sweep: Sweep, trial: Trial, place: float) -> None:
    best, colour = trial is sweep.best(trial.method), _colour(sweep, trial.method)
    axes.scatter(
        place,
        trial.score,
        s=160 if best else 36,
        marker="*" if best else "o",
        facecolors=colour if trial.state == "finished" else "none",
        edgecolors=colour,
        zorder=3 if best else 2,
    )


def _colour(sweep: Sweep, method: str) -> str:
    return f"C{sweep.definition.methods.index(method)}"


def _place(sweep: Sweep, trial: Trial, field: str, each: Range) -> float:
    """Return where a trial is on the axis of a field; of a choice, methods stand side by side."""
    value, methods = trial.values[field], sweep.definition.methods
    if isinstance(each, Interval):
        return float(value)
    beside = methods.index(trial.method) - (len(methods) - 1) / 2
    return each.values.index(value) + beside * _BESIDE / len(methods)


def _set_ticks(axes: Any, each: Range) -> None:
    if isinstance(each, Choice):
        axes.set_xticks(range(len(each.values)), [value_text(one) for one in each.values])
        axes.set_xlim(-0.5, len(each.values) - 0.5)
        return
    if each.log:
        axes.set_xscale("log")
        margin = (each.high / each.low) ** _MARGIN
        axes.set_xlim(each.low / margin, each.high * margin)
        if each.high / each.low < _FEW_DECADES:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = (each.high - each.low) * _MARGIN
        axes.set_xlim(each.low - margin, each.high + margin)


def _explain(figure: Figure, sweep: Sweep) -> None:
    """Add a legend of the methods and the marks."""
    axes = figure.axes[0]
    marks = [
        axes.scatter([], [], color=_colour(sweep, method), label=method)
        for method in sweep.definition.methods
    ]
    marks.append(axes.scatter([], [], marker="*", s=120, color="grey", label="the best"))
    marks.append(
        axes.scatter([], [], facecolors="none", edgecolors="grey", label="stopped before its end")
    )
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    name = sweep.definition.task.rpartition("/")[2]
    figure.suptitle(f"{name}: {sweep.definition.metric} of {len(sweep.trials)} trials")
