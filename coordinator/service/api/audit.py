"""audit.jsonl in the state folder: a line for each call that changes something, or is refused."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from coordinator.service.api.calls import Call

CHANGES = frozenset(
    {
        *("UploadCode", "SubmitJob", "PauseJob", "ResumeJob", "ScaleJob"),
        *("CancelJob", "DeleteJob"),
    }
)

logger = logging.getLogger(__name__)


class Audit:
    """Appends to the file, which may be moved away at any time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, method: str, call: Call, result: str) -> None:
        """Write who called a method of CHANGES, about which job, when, and how that ended.

        method: its path, "/errorcast.v1.TrainingService/PauseJob".
        result: OK, or the name of an error and its text.
        """
        what = method.rpartition("/")[2]
        if what not in CHANGES:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "user": call.user.name,
            "what": what,
            "about": call.about,
            "result": result,
        }
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # the change is made already
            logger.error("%s: %s could not be noted: %s", self._file, line, error)
