"""How busy each process is: since the start of the run, and in the newest segment."""

from collections.abc import Sequence
from typing import Any

from workers.meter import SegmentStats

_NONE = SegmentStats(0.0, 0.0, 0)


class Loads:
    """Sums what every process did; the coordinator comes after all workers."""

    def __init__(self, workers: Sequence[tuple[str, str]], head_here: bool) -> None:
        """workers: (name, layers) of each, for people; head_here: the coordinator has the head."""
        self._processes = [*workers, ("coordinator", "head" if head_here else "")]
        self._total = self._newest = [_NONE] * len(self._processes)

    def add(self, segment: Sequence[SegmentStats]) -> None:
        """Add what every process did in one more segment."""
        self._newest = list(segment)
        self._total = [a + b for a, b in zip(self._total, segment, strict=True)]

    def total(self) -> list[dict[str, Any]]:
        """Return a row a process: name, layers, busy and waiting share, bytes sent."""
        return self._rows(self._total)

    def newest(self) -> list[dict[str, Any]]:
        """Return the same rows of the newest segment alone."""
        return self._rows(self._newest)

    def snapshot_share(self) -> float:
        """Return the share of its time that snapshots took of the process that they cost most."""
        shares = [one.snapshot_s / one.seconds for one in self._total if one.seconds]
        return max(shares, default=0.0)

    def data_s(self) -> float:
        """Return how long workers waited for data that they read: those that waited longest."""
        return max(one.data_s for one in self._total)

    def _rows(self, stats: Sequence[SegmentStats]) -> list[dict[str, Any]]:
        return [
            {
                "process": process,
                "layers": layers,
                "busy": max(0.0, 1 - one.waiting_s / one.seconds) if one.seconds else 0.0,
                "waiting": min(1.0, one.waiting_s / one.seconds) if one.seconds else 0.0,
                "bytes_sent": one.bytes_sent,
            }
            for (process, layers), one in zip(self._processes, stats, strict=True)
        ]
