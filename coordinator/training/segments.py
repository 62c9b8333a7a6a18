"""Trains a run segment by segment: up to the next event, or for about a second."""

from collections.abc import Callable, Sequence

from coordinator.engine.base import Engine
from coordinator.training.steps import StepLog
from coordinator.training.tracing import TraceRequest

_SEGMENT_S = 1.0  # the longest that a request to stop waits


class Segments:
    """The segments of a run; one of them is traced where that was asked for."""

    def __init__(self, steps: StepLog, total: int, events: Sequence[int]) -> None:
        """total: steps of the run. events: each number of steps after which something is due."""
        self._steps, self._total, self._events = steps, total, events
        self._trace: TraceRequest | None = None

    def timeline(self, request: TraceRequest) -> None:
        """Ask for a trace of the next steps; from any thread."""
        self._trace = request

    def close(self) -> None:
        """Answer who still waits for a trace: there is none."""
        if self._trace is not None:
            self._trace.give_up("the run has ended")

    def train(self, engine: Engine, first: int, rate: Callable[[int], float]) -> int:
        """Train from step `first` to the next boundary; return the step there.

        rate: the learning rate of a step. Raises as StepLog.train() does.
        """
        last, request = self._boundary(first), self._trace
        traced = request.end(first, last, min(self._events), self._total) if request else None
        if request is None or traced is None:
            self._steps.train(engine, first, last, rate)
            return last
        self._trace = None
        request.answer(lambda: self._steps.train(engine, first, traced, rate), engine)
        return traced

    def _boundary(self, step: int) -> int:
        """Return where the segment from `step` ends: at an event, or after about a second."""
        step_s = self._steps.median_s
        length = max(1, int(_SEGMENT_S / max(1e-9, step_s))) if step_s else 2
        length = max(length, self._trace.steps if self._trace else 0)
        return min(step + length, self._total, *(step - step % n + n for n in self._events))
