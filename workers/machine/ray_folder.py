"""The folder for the files of a Ray of our own: its sockets limit how long its path may be."""

import os
from pathlib import Path

from dfa_core.errors import JobError

_LONGEST = 107  # bytes of a socket's path on Linux
# what Ray appends: the session's time, a process id of up to 7 digits, its longest socket
_APPENDED = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def check_sockets(folder: Path) -> None:
    """Raise JobError when the sockets of a Ray whose files are in this folder cannot be opened."""
    too_many = len(os.fsencode(folder)) + _APPENDED - _LONGEST
    if too_many > 0:
        raise JobError(
            f"TMPDIR: {folder} is {too_many} characters too long for the paths of Ray's sockets; "
            f"set TMPDIR to a folder with a shorter path, such as /tmp"
        )


def default_folder() -> Path:
    """Return where Ray keeps its files by default, absolute."""
    named = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    return Path(named).expanduser().absolute() / "ray"
