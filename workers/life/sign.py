"""What shows that a process lives: it answers, or at least it computes."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 1.0
_BUSY = 0.05  # a process computes if it uses the CPU for a larger share of the time
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sign:
    """What a worker answers when it is asked for a sign of life.

    moved: grows whenever a byte of a message moves between it and another rank.
    waits: whether its main thread waits for a message, and so for another rank.
    cpu_s: seconds of CPU that the process has used.
    """

    moved: int
    waits: bool
    cpu_s: float


class RunningClock:
    """Counts the seconds in which this process runs, and looks at the clock often.

    A process that was itself suspended, or had no CPU, cannot say how long others were silent:
    a long gap between two looks counts as a short one.
    """

    def __init__(self, longest_gap_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap_s, self._clock = longest_gap_s, clock
        self._seconds, self._last = 0.0, clock()

    def now(self) -> float:
        """Return the seconds counted since construction."""
        last, self._last = self._last, self._clock()
        self._seconds += min(self._last - last, self._longest_gap_s)
        return self._seconds


def computes(process: int) -> bool:
    """Return whether a process of this node uses the CPU; watches it for a second.

    A process that answers nothing may still work: native code can hold Python's lock (GIL) for
    minutes. A stopped process uses no CPU.
    """
    before = _cpu_s(process)
    time.sleep(_LOOK_S)
    after = _cpu_s(process)
    return before is not None and after is not None and after - before > _BUSY * _LOOK_S


def _cpu_s(process: int) -> float | None:
    """Return the seconds of CPU that a process has used; None if there is no such process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
