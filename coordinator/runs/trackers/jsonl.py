"""metrics.jsonl: a line of JSON for each logged step and each evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from coordinator.runs.trackers.tracker import Line, Tracker
from coordinator.runs.valid_json import json_text
from workers.storage import LocalFolder


class JsonLines(Tracker):
    """Appends lines to a file. What a full disk does not take yet waits in memory, in its order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._unwritten = b""

    def begin(self, lines: Sequence[Line]) -> None:
        """Continue the file after these lines; drop others. Raises OSError when that fails."""
        self.close()
        self._unwritten = b""
        text = b"".join(map(_bytes, lines))
        if not self._path.exists() or self._path.read_bytes() != text:
            LocalFolder(self._path.parent).write(self._path.name, text)
        self._file = self._path.open("ab", buffering=0)

    def metrics(self, lines: Sequence[Line]) -> None:
        """Append lines. Raises OSError when the disk takes no more."""
        self._unwritten += b"".join(map(_bytes, lines))
        while self._unwritten and self._file is not None:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._file is None:
            return
        try:
            self.metrics([])
        except OSError:
            return  # reported by the write that failed
        finally:
            self._file.close()
            self._file = None


def _bytes(line: Line) -> bytes:
    return f"{json_text(line)}\n".encode()
