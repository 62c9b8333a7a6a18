"""A picture of one run: losses and metrics over the steps."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dfa_core.atomic_file import atomic_path


def draw_curves(curve: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Write the picture of a run as a PNG.

    curve: the lines of metrics.jsonl.
    """
    figure = figure_of_curves(curve, title)
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")


def figure_of_curves(
    curve: Sequence[dict[str, Any]], title: str, size: tuple[float, float] = (10, 4)
) -> Figure:
    """Draw the losses over the steps on the left, the task's metrics over the epochs on the right.

    curve: the lines of metrics.jsonl; size: width and height in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, metric_axes = figure.subplots(1, 2)
    trained = [line for line in curve if line["kind"] == "train"]
    evaluated = [line for line in curve if line["kind"] == "evaluation"]
    steps = [line["step"] for line in trained]
    loss_axes.plot(steps, [line["loss"] for line in trained], linewidth=0.8, label="training")
    marks = [line["step"] for line in evaluated]
    loss_axes.plot(marks, [line["loss"] for line in evaluated], marker=".", label="evaluation")
    positive = all(not line["loss"] <= 0 for line in (*trained, *evaluated))  # NaN is not drawn
    loss_axes.set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear")
    loss_axes.legend()
    names = [
        n
        for n in (evaluated[-1] if evaluated else {})
        if n not in ("kind", "step", "epoch", "loss")
    ]
    epochs = [line["epoch"] for line in evaluated]
    for name in names:
        scores = [line.get(name, nan) for line in evaluated]
        metric_axes.plot(epochs, scores, marker=".", label=name)
    metric_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    metric_axes.set(xlabel="epoch", ylabel=", ".join(names) or "metric")
    if names:
        metric_axes.legend()
    for axes in (loss_axes, metric_axes):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure
