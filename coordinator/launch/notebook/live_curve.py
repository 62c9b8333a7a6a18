"""The picture of a run while it trains: its curves so far, and how far it is."""

import io
from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any

from PIL import Image

from coordinator.runs.curves import figure_of_curves
from coordinator.training.events import (
    Evaluation,
    Event,
    Metrics,
    Progress,
    RolledBack,
    TrainingStarted,
)

_SIZE = (9.0, 3.2)  # inches
_DPI = 130
_COLOURS = 64  # a third of the bytes of all colours; a saved notebook holds each last picture
_MOST_POINTS = 2000


class LiveCurve:
    """Gathers what the events of a run say, in bounded memory, and draws it."""

    def __init__(self, title: str, epochs: int, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        """earlier: lines of metrics.jsonl, of a run that is resumed."""
        self._title, self._epochs = title, epochs
        self.losses: dict[int, float] = {}  # by step, those kept and the newest
        self._kept, self._apart = -inf, 0.0  # the last step that is kept; how far apart they are
        self.scores: dict[int, dict[str, Any]] = {}
        self._now: Progress | None = None
        self._began: tuple[int, int, float] | None = None  # step, samples, time
        for line in earlier:
            if line["kind"] == "train":
                self._add_loss(line["step"], line["loss"])
            elif line["kind"] == "evaluation":
                self.scores[line["step"]] = dict(line)

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to draw yet."""
        return not self.losses and not self.scores

    def event(self, event: Event) -> None:
        """Take in what an event adds to the curves."""
        match event:
            case TrainingStarted() | RolledBack():
                self.losses = {at: y for at, y in self.losses.items() if at <= event.step}
                self._kept = min(self._kept, event.step)
                self.scores = {at: y for at, y in self.scores.items() if at <= event.step}
            case Metrics():
                self._add_loss(event.step, event.loss)
            case Evaluation() if event.step not in self.scores:
                line = {"kind": "evaluation", "step": event.step, "epoch": event.epoch}
                self.scores[event.step] = line | dict(event.scores)

    def progress(self, progress: Progress) -> None:
        """Note how far the run is."""
        if self._began is None:
            self._began = (progress.step, progress.samples, monotonic())
        self._now = progress
        self._add_loss(progress.step, progress.loss)

    def status(self) -> str:
        """Return the epoch, the speed since the run began, and the time left, as one line."""
        if self._now is None or self._began is None:
            return "starting"
        now, (step, samples, began) = self._now, self._began
        epoch = min(self._epochs, now.step * self._epochs // now.total + 1)
        seconds = monotonic() - began
        status = f"epoch {epoch}/{self._epochs}"
        if now.step > step and seconds > 0:
            left = round((now.total - now.step) * seconds / (now.step - step))
            status += f", {(now.samples - samples) / seconds:,.0f} samples/s, {_clock(left)} left"
        return status

    def png(self, status: str) -> bytes:
        """Draw the curves; status: what the title says after the name of the run."""
        lines = [
            {"kind": "train", "step": step, "loss": loss}
            for step, loss in sorted(self.losses.items())
        ]
        scores = [line for _, line in sorted(self.scores.items())]
        figure = figure_of_curves([*lines, *scores], f"{self._title}: {status}", _SIZE)
        drawn, small = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, dpi=_DPI, format="png")
        with Image.open(drawn) as image:
            few = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        few.save(small, "png", optimize=True)
        return small.getvalue()

    def _add_loss(self, step: int, loss: float) -> None:
        newest = next(reversed(self.losses), None)
        if newest is not None and 0 <= newest - self._kept < self._apart:
            del self.losses[newest]
        elif newest is not None:
            self._kept = newest
        self.losses[step] = loss
        if len(self.losses) > _MOST_POINTS:
            points, self.losses, self._kept = self.losses, {}, -inf
            self._apart = 2 * (step - min(points)) / _MOST_POINTS
            for at in sorted(points):
                self._add_loss(at, points[at])


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
