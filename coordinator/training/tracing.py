"""A timeline of a running job: the next few steps, traced on all its processes."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from dfa_core import TrainingFailed
from workers.trace import Recording, Span

Traced = Sequence[Sequence[Span]]


class Traceable(Protocol):
    """An engine whose processes can record what they compute."""

    def trace(self, profiled: bool = False) -> None:
        """Start recording; profiled: with torch's profiler."""

    def recordings(self) -> Sequence[Recording]:
        """Stop recording; return that of each process, the head's last."""


class TraceRequest:
    """Asks a run for the spans of its next steps, and waits for them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._there = threading.Event()
        self._rows: Traced = ()
        self._why_not = ""

    def end(self, first: int, last: int, longest: int, total: int) -> int | None:
        """Return where a traced segment from `first` ends, or None to trace a later one.

        A segment first..last-1 that is shorter than the request is not traced, if a later one can
        be longer.

        longest: steps between two events; total: of the run.
        """
        enough = last - first >= min(self.steps, longest)
        return min(last, first + self.steps) if enough or last == total else None

    def answer(self, train: Callable[[], None], engine: Traceable) -> None:
        """Train some steps while the engine records."""
        engine.trace()
        try:
            train()
            self._rows = [recording.spans for recording in engine.recordings()]
        finally:
            self.give_up("the run failed meanwhile")

    def give_up(self, why: str) -> None:
        """End the waiting; without spans so far, wait() raises TrainingFailed with this reason."""
        self._why_not = why
        self._there.set()

    def wait(self, seconds: float) -> Traced:
        """Return the rows of spans. Raises TrainingFailed when there are none in time."""
        if not self._there.wait(seconds):
            raise TrainingFailed(f"no step was traced within {seconds:.0f} s")
        if not self._rows:
            raise TrainingFailed(self._why_not)
        return self._rows
