"""What shows that a process lives: it answers, or at least it computes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 1.0
_LOOKS = 10
_WORKS = ("R", "D")  # runs or is ready to; waits for a disk


@dataclass(frozen=True)
class Sign:
    """What a worker answers when it is asked for a sign of life.

    moved: grows whenever a byte of a message moves between it and another rank.
    waits: whether its main thread waits for a message, and so for another rank.
    """

    moved: int
    waits: bool


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
    """Return whether a process of this node runs, or is ready to run; watches it for a second.

    A process that answers nothing may still work: native code can hold Python's lock (GIL) for
    minutes. Its CPU time says nothing on a busy machine, where Ray's processes get little of it. A
    stopped process is not ready to run.
    """
    looks = 0
    for _ in range(_LOOKS):
        looks += any(_ready(thread) for thread in Path("/proc").glob(f"{process}/task/*"))
        time.sleep(_LOOK_S / _LOOKS)
    return looks > _LOOKS / 2


def of_thread(thread: int) -> Sign:
    """Return the sign of a worker whose work is that of one thread of this process.

    It waits where the thread sleeps; what moves is its CPU time.
    """
    fields = _stat(Path(f"/proc/self/task/{thread}"))
    if not fields:
        return Sign(moved=0, waits=False)
    return Sign(moved=int(fields[11]) + int(fields[12]), waits=fields[0] not in _WORKS)


def _ready(thread: Path) -> bool:
    return _stat(thread)[:1] == ["R"]


def _stat(thread: Path) -> list[str]:
    """Return the fields of a thread's stat from its state on; none if there is no such thread."""
    try:
        stat = (thread / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()  # the name before it may hold spaces
