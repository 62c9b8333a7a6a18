"""Plots of a comparison of methods: scores and alignment over the steps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from coordinator.experiments.method_comparison import Row


def draw_comparison(rows: "Sequence[Row]", path: Path, title: str) -> None:
    """Draw the evaluations of every method: mean and standard deviation over its seeds."""
    names = list(rows[0].scores[0])
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for row in rows:
            lines = (line for curve in row.curves for line in curve)
            values = ((li["step"], li[name]) for li in lines if li["kind"] == "evaluation")
            _band(axes, values, row.method)
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def draw_alignment(row: "Row", path: Path, title: str) -> None:
    """Draw each layer's alignment over the steps: mean and standard deviation over the seeds."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for index, (layer, _) in enumerate(row.alignment[0][0][1]):
        looks = (look for of_seed in row.alignment for look in of_seed)
        _band(axes, ((step, cosines[index][1]) for step, cosines in looks), layer)
    axes.set(xlabel="step", ylabel="cosine with the exact gradient")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _band(axes: Any, values: Iterable[tuple[int, float]], label: str) -> None:
    """Draw the mean of each step's values, with one standard deviation on both sides."""
    by_step: dict[int, list[float]] = {}
    for step, value in values:
        by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    middle = np.array([np.mean(by_step[step]) for step in steps])
    spread = np.array([np.std(by_step[step]) for step in steps])
    (line,) = axes.plot(steps, middle, marker=".", label=label)
    axes.fill_between(steps, middle - spread, middle + spread, alpha=0.2, color=line.get_color())
