"""Draws what a finished run has learned: embeddings and rendered views."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_embeddings(panels: Sequence[tuple[str, Tensor, Tensor]], path: Path) -> None:
    """Draw each panel, (title, points (n, 2), classes (n,)), with points coloured by class."""
    figure = Figure(figsize=(5 * len(panels), 5), layout="constrained")
    FigureCanvasAgg(figure)
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, points, classes) in zip(columns, panels, strict=True):
        axes.scatter(points[:, 0], points[:, 1], c=classes, s=6, cmap="tab10")
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def draw_views(
    rows: Sequence[tuple[Tensor, Sequence[Tensor]]], names: Sequence[str], path: Path
) -> None:
    """Draw a row per view: the true image, (h, w, 3), and the image that each run renders.

    names: of the runs, in the order of the images in a row.
    """
    from dfa_tasks.view_synthesis.tasks import score  # noqa: PLC0415

    columns = 1 + len(names)
    figure = Figure(figsize=(3 * columns, 3.2 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for row_axes, (truth, rendered) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows, strict=True
    ):
        titles = ["truth"]
        for name, image in zip(names, rendered, strict=True):
            psnr = score("peak_signal_noise_ratio", truth, image)
            titles.append(f"{name}, {psnr:.1f} dB")
        for axes, title, image in zip(row_axes, titles, (truth, *rendered), strict=True):
            axes.imshow(image.clamp(0, 1).numpy())
            axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
