"""Runs a tracker of another program on a thread of its own, so that training never waits for it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from textwrap import shorten
from time import monotonic
from typing import Any

from coordinator.runs.trackers.followed_lines import FollowedLines
from coordinator.runs.trackers.tracker import Line, RunEnd, Tracker
from dfa_core.errors import reason

_RETRY_S = 30.0
_END_S = 120.0  # the longest that a run's end waits for a tracker, e.g. while it uploads a model
_END_IN_TROUBLE_S = 30.0  # the same, for one that has not begun or has failed
_LINES_AT_ONCE = 1000
_LONGEST_REASON = 200  # characters


class Background(Tracker):
    """Passes on to a tracker what metrics.jsonl holds, when the tracker can take it.

    When a call fails, the tracker is begun again some time later, with all lines so far: it finds
    out which of them its store lacks. So a store that was down for a while misses nothing.
    """

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        lines: Path,
        warn: Callable[[str], None],
        rolls_back: bool,
    ) -> None:
        """name: of the tracker; lines: metrics.jsonl; warn: gets at most one warning.

        rolls_back: lines wait until they are settled, for a roll-back could take them back.
        """
        self._name, self._tracker, self._lines, self._warn = name, tracker, lines, warn
        self._limit = 0.0 if rolls_back else inf  # the newest step that is passed on
        self._hyperparameters: Mapping[str, Any] = {}
        self._artifacts: list[Path] = []
        self._end: tuple[RunEnd, Mapping[str, Any]] | None = None
        self._news = threading.Condition()
        self._noted = self._begun = 0  # notices; times that the run has begun
        self._troubled, self._warned = True, False  # until it has begun
        self._thread: threading.Thread | None = None

    def begin(self, lines: Sequence[Line]) -> None:
        """Start to follow the lines, which are in the file."""
        del lines  # read from the file, on the thread
        self._note(begun=1)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Keep the settings for the thread, which passes them on."""
        self._hyperparameters = values
        self._note()

    def metrics(self, lines: Sequence[Line]) -> None:
        """Note that the file has new lines."""
        del lines
        self._note()

    def settled(self, step: int) -> None:
        """Pass on the lines up to this step."""
        self._limit = max(self._limit, step)
        self._note()

    def artifact(self, file: Path) -> None:
        """Keep a file for the end."""
        self._artifacts.append(file)

    def finish(self, end: RunEnd, summary: Mapping[str, Any]) -> None:
        """Pass on the rest, and wait until the tracker has it; but not for long."""
        thread = self._thread
        if thread is None:
            return
        began, self._limit = monotonic(), inf
        self._end = end, summary
        self._note()
        with self._news:
            while thread.is_alive():
                limit = _END_IN_TROUBLE_S if self._troubled else _END_S
                left = limit - (monotonic() - began)
                if left <= 0:
                    break
                self._news.wait(min(left, 0.2))
        if thread.is_alive():
            self._warn_once(f"it lacks something {monotonic() - began:.0f} s after the end")

    def _note(self, begun: int = 0) -> None:
        with self._news:
            self._noted += 1
            self._begun += begun
            self._news.notify_all()

    def _run(self) -> None:
        while True:
            try:
                self._pass_on()
                return
            except Exception as error:  # noqa: BLE001  # whatever another program raises
                self._troubled = True
                self._warn_once(shorten(reason(error), _LONGEST_REASON, placeholder="..."))
            if self._end is not None:
                return
            with self._news:
                self._news.wait_for(lambda: self._end is not None, timeout=_RETRY_S)

    def _pass_on(self) -> None:
        """Begin the tracker, and follow the file until the run ends."""
        begun: int | None = None
        while True:
            end, noted = self._end, self._noted  # before the file is read: what follows is a notice
            if begun != self._begun:
                begun, lines = self._begun, FollowedLines(self._lines)
                self._tracker.begin(lines.next(self._limit))
                self._tracker.hyperparameters(self._hyperparameters)
            else:
                new = lines.next(self._limit)
                for first in range(0, len(new), _LINES_AT_ONCE):
                    self._tracker.metrics(new[first : first + _LINES_AT_ONCE])
            self._troubled = False
            if end is not None:
                break
            with self._news:
                self._news.wait_for(lambda seen=noted: self._noted != seen)  # type: ignore[misc]
        self._tracker.close()
        for file in self._artifacts:
            try:
                self._tracker.artifact(file)
            except Exception as error:  # noqa: BLE001  # the run's end matters more than a file
                self._warn_once(f"{file.name}: {reason(error)}")
        self._tracker.finish(*end)

    def _warn_once(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"{self._name}: {what}; the run continues, and what {self._name} lacks is sent as "
                f"soon as it answers, or when the run is resumed"
            )
