"""Pictures of runs: losses and scores over the steps, of one or of several methods."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

if TYPE_CHECKING:
    from coordinator.method_comparison import Row


def draw_comparison(rows: "Sequence[Row]", path: Path, title: str) -> None:
    """Draw the evaluations of every method, mean over its seeds and one standard deviation."""
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


def draw_embeddings(panels: Sequence[tuple[str, Tensor, Tensor]], path: Path) -> None:
    """Draw points of two dimensions, coloured by class; a panel each: title, (n, 2), (n,)."""
    figure = Figure(figsize=(5 * len(panels), 5), layout="constrained")
    FigureCanvasAgg(figure)
    drawn = zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
    for axes, (title, points, classes) in drawn:
        axes.scatter(points[:, 0], points[:, 1], c=classes, s=6, cmap="tab10")
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def draw_views(
    rows: Sequence[tuple[Tensor, Sequence[Tensor]]], names: Sequence[str], path: Path
) -> None:
    """Draw views of a scene, (h, w, 3): a row each, the truth and what each run makes of it."""
    from dfa_tasks.view_synthesis import score  # noqa: PLC0415

    columns = 1 + len(names)
    figure = Figure(figsize=(3 * columns, 3.2 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for line, (truth, seen) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, strict=True
    ):
        titles = ["truth"]
        for name, image in zip(names, seen, strict=True):
            psnr = score("peak_signal_noise_ratio", truth, image)
            titles.append(f"{name}, {psnr:.1f} dB")
        for axes, title, image in zip(line, titles, (truth, *seen), strict=True):
            axes.imshow(image.clamp(0, 1).numpy())
            axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def draw_alignment(row: "Row", path: Path, title: str) -> None:
    """Draw each layer's alignment over the training, mean over the seeds and its deviation."""
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
    """Draw the mean of all values of a step, and one standard deviation around it."""
    by_step: dict[int, list[float]] = {}
    for step, value in values:
        by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    middle = np.array([np.mean(by_step[step]) for step in steps])
    spread = np.array([np.std(by_step[step]) for step in steps])
    (line,) = axes.plot(steps, middle, marker=".", label=label)
    axes.fill_between(steps, middle - spread, middle + spread, alpha=0.2, color=line.get_color())


def draw_curves(curve: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Draw training and test loss on the left, the task's metrics on the right, as a PNG.

    curve: the lines of metrics.jsonl.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, metric_axes = figure.subplots(1, 2)
    trained = [line for line in curve if line["kind"] == "train"]
    evaluated = [line for line in curve if line["kind"] == "evaluation"]
    steps = [line["step"] for line in trained]
    loss_axes.plot(steps, [line["loss"] for line in trained], linewidth=0.8, label="training")
    marks = [line["step"] for line in evaluated]
    loss_axes.plot(marks, [line["loss"] for line in evaluated], marker=".", label="evaluation")
    loss_axes.set(xlabel="step", ylabel="loss", yscale="log")
    loss_axes.legend()
    names = [
        n
        for n in (evaluated[-1] if evaluated else {})
        if n not in ("kind", "step", "epoch", "loss")
    ]
    for name in names:
        metric_axes.plot(marks, [line[name] for line in evaluated], marker=".", label=name)
    metric_axes.set(xlabel="step", ylabel=", ".join(names))
    if names:
        metric_axes.legend()
    for axes in (loss_axes, metric_axes):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
