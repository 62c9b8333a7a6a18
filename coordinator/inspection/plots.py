"""Pictures of what a finished run has learned: embeddings and rendered views."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


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
    from dfa_tasks.view_synthesis.tasks import score  # noqa: PLC0415

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
