"""The outputs of a cell that trains: a picture that is replaced in place, and lines below it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from coordinator.launch.notebook.kernel import Cell, Interrupted
from coordinator.launch.notebook.live_curve import LiveCurve
from coordinator.training.events import (
    Event,
    Finished,
    Noted,
    Notice,
    Progress,
    Resumed,
    Waiting,
)

_EVERY_S = 0.5
_SHARE = 10  # the time between two pictures is at least this multiple of what drawing one takes
_WIDTH = {"image/png": {"width": 860}}  # CSS pixels; the picture has more, for sharp text
_MOST_NOTES = 10


class CellViewer:
    """Shows one run: a display that is a picture, and one with lines of text."""

    def __init__(self, curve: LiveCurve, folder: Path) -> None:
        from IPython.display import display  # noqa: PLC0415  # a kernel runs, so it is there

        self._curve, self._folder = curve, _shown(folder)
        self._notes: list[str] = []
        self._summary: Mapping[str, Any] | None = None
        self._due, self._waiting = 0.0, False
        first = {"image/png": curve.png("starting"), "text/plain": "starting"}
        self._picture = display(first, raw=True, display_id=True, metadata=_WIDTH)
        self._text = display({"text/plain": self._lines()}, raw=True, display_id=True)

    def event(self, event: Event) -> None:
        """Show an event: a point of the curves, or a line below them."""
        self._curve.event(event)
        if isinstance(event, Waiting):  # worth a line only while it lasts
            self._waiting = True
            self._write(self._lines(event.message))
        elif isinstance(event, Resumed | Noted | Notice):
            self._notes = [*self._notes, event.message][-_MOST_NOTES:]
            self._write(self._lines())
        if isinstance(event, Finished):
            self._summary = event.summary
        self._draw_if_due()

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""
        self._curve.progress(progress)
        if self._waiting:
            self._waiting = False
            self._write(self._lines())
        self._draw_if_due()

    def end(self, how: str) -> None:
        """Draw the last picture, and write the result below it.

        how: what the title says of a run that had no end of its own.
        """
        if self._summary is not None:
            self._draw(_ending(self._summary))
            self._write(self._lines(*_result(self._summary, self._folder)))
        elif self._curve.is_empty:  # the error below says why
            self._picture.update({"text/plain": ""}, raw=True)
            self._write("\n".join(self._notes))
        else:
            self._draw(how)

    def _lines(self, *result: str) -> str:
        return "\n".join([*self._notes, *(result or [f"run folder: {self._folder}"])])

    def _write(self, text: str) -> None:
        self._text.update({"text/plain": text}, raw=True)

    def _draw_if_due(self) -> None:
        if monotonic() >= self._due and not self._curve.is_empty:
            self._draw(self._curve.status())

    def _draw(self, status: str) -> None:
        began = monotonic()
        picture = {"image/png": self._curve.png(status), "text/plain": status}
        self._picture.update(picture, raw=True, metadata=_WIDTH)
        ended = monotonic()
        self._due = ended + max(_EVERY_S, _SHARE * (ended - began))


@contextmanager
def shown_in(cell: Cell, curve: LiveCurve, folder: Path) -> Iterator[CellViewer]:
    """Show a run in a cell until the block ends.

    Raises Interrupted in place of a KeyboardInterrupt, whose stack trace would fill the cell.
    """
    viewer, how = None, "failed"
    with cell.takes_outputs():
        try:
            viewer = CellViewer(curve, folder)
            yield viewer
        except KeyboardInterrupt as error:
            how = "interrupted"
            raise Interrupted(f"what the run saved until now is in {_shown(folder)}") from error
        finally:
            if viewer is not None:
                viewer.end(how)


def _shown(folder: Path) -> str:
    """Return a folder as people would type it, from the current one if it is below that."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _ending(summary: Mapping[str, Any]) -> str:
    word = "finished" if summary["finished"] else "stopped"
    return f"{word} at step {summary['steps']:,}, {summary['samples_per_s']:,.0f} samples/s"


def _result(summary: Mapping[str, Any], folder: str) -> list[str]:
    """Return the lines about a run that ended well, or was stopped."""
    scores = "  ".join(f"{name} {value:.4f}" for name, value in summary["metrics"].items())
    speed = f"{summary['steps']:,} steps, {summary['step_ms']:.2f} ms each"
    data = "test" if summary["finished"] else "last evaluation:"
    lines = [f"{data} {scores}  ({speed})" if scores else speed, f"run folder: {folder}"]
    if summary.get("stopped_by"):
        lines.insert(1, f"ended at step {summary['steps']} by {summary['stopped_by']}")
    if not summary["finished"]:
        lines.append(
            f"stopped and saved at step {summary['steps']}; continue with: "
            f"train(..., run_dir={folder!r}, resume=True)"
        )
    return lines
