"""Measures what a rank does in a segment: seconds of computing and of waiting, bytes sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from workers.groups.group import Group
from workers.machine.python_warnings import PythonWarning


@dataclass(frozen=True)
class SegmentStats:
    """What a rank did in a segment.

    seconds: in all; waiting_s: the part of them in which it waited for messages.
    snapshot_s: by how much a snapshot delayed the segment.
    skipped: (step, layer) pairs: the layer skipped the batch, since its gradient was not finite.
    warned: its new Python warnings.
    data_s: seconds in which it waited for data that it reads itself.
    """

    seconds: float
    waiting_s: float
    bytes_sent: int
    snapshot_s: float = 0.0
    skipped: tuple[tuple[int, str], ...] = ()
    warned: tuple[PythonWarning, ...] = ()
    data_s: float = 0.0

    def __add__(self, other: "SegmentStats") -> "SegmentStats":
        return SegmentStats(
            self.seconds + other.seconds,
            self.waiting_s + other.waiting_s,
            self.bytes_sent + other.bytes_sent,
            self.snapshot_s + other.snapshot_s,
            data_s=self.data_s + other.data_s,
        )


class Meter:
    """Measures what a rank does in a segment, from its construction on."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """groups: all groups that the rank is in."""
        self._groups = groups
        self._start, self._waited, self._sent = perf_counter(), *self._so_far()

    def read(self) -> SegmentStats:
        """Return what the rank has done since then."""
        waited, sent = self._so_far()
        seconds = perf_counter() - self._start
        return SegmentStats(seconds, waited - self._waited, sent - self._sent)

    def _so_far(self) -> tuple[float, int]:
        return sum(g.wait_s for g in self._groups), sum(g.bytes_sent for g in self._groups)
