"""Records when a process computes: the data of a timeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time


@dataclass(frozen=True)
class Span:
    """One piece of computing: what, of which step and microbatch, from when to when.

    microbatch: its number in the step; -1 where the span is of the whole step.
    start, end: seconds of the system's clock, which all processes of a node share.
    """

    what: str
    step: int
    microbatch: int
    start: float
    end: float


class Tracer:
    """Records the spans of one process between start() and stop(); otherwise does nothing."""

    def __init__(self) -> None:
        self._spans: list[Span] | None = None

    def start(self) -> None:
        """Start to record, with no spans yet."""
        self._spans = []

    def stop(self) -> list[Span]:
        """Stop recording; return the spans, or none where nothing was recorded."""
        spans, self._spans = self._spans, None
        return spans or []

    @contextmanager
    def span(self, what: str, step: int, microbatch: int = -1) -> Iterator[None]:
        """Record what runs inside a `with`, unless it raises."""
        spans, start = self._spans, time()
        yield
        if spans is not None:
            spans.append(Span(what, step, microbatch, start, time()))
