"""Reads metrics.jsonl while a run writes it."""

import json
from pathlib import Path

from coordinator.runs.trackers.tracker import Line
from coordinator.runs.valid_json import numbers


class FollowedLines:
    """The lines of a file that grows, each once.

    The file is the queue between a run and a slow tracker: it costs no memory, and has no bound.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes
        self._waiting: list[Line] = []

    def next(self, limit: float) -> list[Line]:
        """Return the lines that are new, up to the first of a step above `limit`."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the rest is still being written
        self._read += len(whole)
        self._waiting += [numbers(json.loads(line)) for line in whole.splitlines()]
        above = (n for n, line in enumerate(self._waiting) if line["step"] > limit)
        end = next(above, len(self._waiting))
        ready, self._waiting = self._waiting[:end], self._waiting[end:]
        return ready
