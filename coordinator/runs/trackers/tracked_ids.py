"""Which runs of other programs belong to this run: trackers.json in the run folder."""

import json
import threading
from pathlib import Path
from typing import Any

from workers.storage import LocalFolder

_LOCK = threading.Lock()  # each tracker writes on a thread of its own


class TrackedIds:
    """What a resume needs to find the tracked run of one tracker again. It holds no secrets."""

    def __init__(self, path: Path, tracker: str) -> None:
        self._path, self._tracker = path, tracker

    def read(self) -> dict[str, str]:
        """Return what was written, nothing for a run that was not tracked yet."""
        return dict(self._all().get(self._tracker, {}))

    def write(self, **values: str) -> None:
        """Replace it. Raises OSError when the write fails."""
        with _LOCK:
            text = json.dumps({**self._all(), self._tracker: values}, indent=1)
            LocalFolder(self._path.parent).write(self._path.name, f"{text}\n".encode())

    def _all(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        return found
