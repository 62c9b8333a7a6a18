"""Reports what a run waits for, once that takes long: data, a store, layers that are built."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_FIRST_S = 5.0
_LOOKS = 20  # in the time of the first report

Report = Callable[[str, float], None]


class Waits:
    """What the run's main thread waits for now, if for anything outside of errorcast.

    A kind of wait is reported when it has taken some seconds, and then each time that one takes
    twice as long as the longest one reported, so that a source which is slow at every step gives
    few reports.

    seconds: waited in all, by kind.
    """

    def __init__(self, report: Report | None = None, first_s: float = _FIRST_S) -> None:
        """report: gets what is waited for, and the seconds so far; on a thread of its own."""
        self._due: defaultdict[str, float] = defaultdict(lambda: first_s)  # by kind
        self._current: tuple[str, str, float] | None = None
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._closed = threading.Event()
        if report is not None:
            looks = (first_s / _LOOKS, report)
            threading.Thread(target=self._watch, args=looks, name="waits", daemon=True).start()

    @contextmanager
    def on(self, kind: str, which: str = "") -> Iterator[None]:
        """Note the wait inside the block, e.g. for "the data" "of step 7"."""
        began = monotonic()
        before, self._current = self._current, (kind, which, began)
        try:
            yield
        finally:
            self._current = before
            self.seconds[kind] += monotonic() - began

    def close(self) -> None:
        """Report nothing more."""
        self._closed.set()

    def _watch(self, period_s: float, report: Report) -> None:
        while not self._closed.wait(period_s):
            current = self._current
            if current is None:
                continue
            kind, which, since = current
            seconds = monotonic() - since
            if seconds >= self._due[kind]:
                self._due[kind] = 2 * seconds
                report(f"{kind} {which}".strip(), seconds)
