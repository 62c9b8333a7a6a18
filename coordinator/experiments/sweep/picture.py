"""Draws a sweep: the score over each swept field, a colour a method."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from coordinator.experiments.sweep.ranges import Choice, Range
from coordinator.experiments.sweep.record import Sweep, Trial
from coordinator.experiments.sweep.tables import value_text

_COLUMNS = 3


def draw_sweep(sweep: Sweep, path: Path) -> None:
    """Draw every trial that has a score: filled if it was trained to its end, else hollow.

    A star is the best of its method. Raises OSError when the picture cannot be written.
    """
    ranges = sweep.definition.ranges
    columns = min(_COLUMNS, len(ranges))
    rows = -(-len(ranges) // columns)
    figure = Figure(figsize=(1.5 + 4.5 * columns, 0.7 + 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axes, (field, each) in zip(plots, ranges.items(), strict=False):
        for number, method in enumerate(sweep.definition.methods):
            _draw(axes, sweep, method, field, each, f"C{number}")
        axes.set_xlabel(field)
        axes.grid(alpha=0.3)
        if isinstance(each, Choice):
            axes.set_xticks(range(len(each.values)), [value_text(one) for one in each.values])
            axes.set_xlim(-0.5, len(each.values) - 0.5)
        else:
            axes.set_xscale("log" if each.log else "linear")
            axes.set_xlim(each.low, each.high)
    for axes in plots:  # the rest
        axes.set_visible(False)
    for axes in figure.axes[::columns]:
        axes.set_ylabel(sweep.definition.metric)
    _explain(figure, sweep)
    figure.savefig(path, dpi=110)


def _draw(axes: Any, sweep: Sweep, method: str, field: str, each: Range, colour: str) -> None:
    best = sweep.best(method)
    for trial in sweep.of_method(method):
        if field not in trial.values or trial.score is None or trial.state == "failed":
            continue
        filled = trial.state == "finished"
        size, mark = (160, "*") if trial is best else (36, "o")
        axes.scatter(
            _place(trial, field, each),
            trial.score,
            s=size,
            marker=mark,
            facecolors=colour if filled else "none",
            edgecolors=colour,
            zorder=3 if trial is best else 2,
        )


def _place(trial: Trial, field: str, each: Range) -> float:
    value = trial.values[field]
    return float(each.values.index(value) if isinstance(each, Choice) else value)


def _explain(figure: Figure, sweep: Sweep) -> None:
    """Add a legend of the methods and the marks."""
    axes = figure.axes[0]
    marks = [
        axes.scatter([], [], color=f"C{number}", label=method)
        for number, method in enumerate(sweep.definition.methods)
    ]
    marks.append(axes.scatter([], [], marker="*", s=120, color="grey", label="the best"))
    marks.append(
        axes.scatter([], [], facecolors="none", edgecolors="grey", label="stopped before its end")
    )
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    name = sweep.definition.task.rpartition("/")[2]
    figure.suptitle(f"{name}: {sweep.definition.metric} of {len(sweep.trials)} trials")
