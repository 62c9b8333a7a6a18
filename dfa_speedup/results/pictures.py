"""The two pictures of a comparison: bars of the speedups, and the timelines of two sides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dfa_speedup.results.timeline import row_names
from workers.trace import Span

_COLOURS = {
    "forward": "#6ea6d8",
    "update": "#e0a458",
    "backward": "#d9796f",
    "weights": "#e8b1a9",
    "optimizer": "#555555",
    "head": "#8a6fb0",
}


def draw_speedups(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw the speedup of errorcast over each side at its best, as a PNG."""
    ran = [row for row in rows if row["speedup"] is not None and row["schedule"] != "errorcast"]
    figure = _figure(8, 0.45 * len(ran) + 1.4)
    axes = figure.subplots()
    names = [f"{row['label']} (M {row['microbatches']})" for row in ran]
    bars = axes.barh(names, [row["speedup"] for row in ran], color="#6ea6d8")
    axes.bar_label(bars, fmt="%.2fx", padding=3)
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="speedup of errorcast: step time / errorcast's step time", title=title)
    axes.margins(x=0.12)
    figure.savefig(path, dpi=110)


def draw_timelines(sides: Mapping[str, Sequence[Sequence[Span]]], path: Path) -> None:
    """Draw the timelines of the sides' workers from the second step on, as a PNG."""
    figure = _figure(11, 1.1 + sum(0.5 * len(rows) + 0.6 for rows in sides.values()))
    heights = [len(rows) + 1 for rows in sides.values()]
    grid = figure.subplots(len(sides), 1, sharex=True, height_ratios=heights, squeeze=False)
    seen: dict[str, None] = {}
    for axes, (side, rows) in zip(grid[:, 0], sides.items(), strict=True):
        _draw_side(axes, side, rows, seen)
    grid[-1, 0].set_xlabel("ms; white is waiting")
    patches = [Patch(color=_COLOURS[what], label=what) for what in seen]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    figure.savefig(path, dpi=110)


def _draw_side(
    axes: Axes, side: str, rows: Sequence[Sequence[Span]], seen: dict[str, None]
) -> None:
    ends = [span.end for span in rows[0] if span.what == "optimizer"]
    begin = ends[0] if ends else 0.0
    for index, row in enumerate(rows):
        for what in dict.fromkeys(span.what for span in row):
            seen[what] = None
            ranges = [
                (1e3 * (s.start - begin), 1e3 * (s.end - s.start))
                for s in row
                if s.what == what and s.start >= begin
            ]
            axes.broken_barh(
                ranges, (index - 0.4, 0.8), facecolors=_COLOURS[what], edgecolor="white"
            )
    axes.set_yticks(range(len(rows)), row_names(rows))
    axes.set_title(side, loc="left", fontsize=10)
    axes.set_xlim(left=0)
    axes.invert_yaxis()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
