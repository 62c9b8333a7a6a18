"""The files of a user's code as they travel to a service: a list of plain files, and its digest.

A listing can name no link, no device and no place outside its folder, so unpacking it cannot reach
one. Both sides check it by the same rules.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from errorcast.v1 import service_pb2 as pb

from dfa_core.errors import JobError

MOST_BYTES = 32 << 20
MOST_FILES = 4096
MOST_LISTING_BYTES = 1 << 20  # of the paths, sizes and digests together
_MOST_PATH_BYTES, _MOST_NAME_BYTES = 1024, 200
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CodeFile:
    """A file: its relative path, its size in bytes, its SHA-256, whether it may be executed."""

    path: str
    bytes: int
    sha256: str
    executable: bool = False


class CodeListing:
    """All files of some code, in the order of their paths' bytes."""

    def __init__(self, files: Iterable[CodeFile]) -> None:
        """Raise JobError for files that break a rule, naming the first."""
        self.files = tuple(files)
        self.text = "".join(map(_line, self.files))
        self._check()
        self.digest = sha256(self.text.encode()).hexdigest()
        self.bytes = sum(file.bytes for file in self.files)
        self._paths = frozenset(file.path for file in self.files)

    def __contains__(self, path: object) -> bool:
        return path in self._paths

    def __len__(self) -> int:
        return len(self.files)

    @classmethod
    def of_message(cls, message: pb.CodeListing) -> "CodeListing":
        """Return the listing of a message. Raises JobError."""
        if len(message.files) > MOST_FILES:
            raise JobError(f"code: has {len(message.files):,} files, above {MOST_FILES:,}")
        return cls(CodeFile(f.path, f.bytes, f.sha256, f.executable) for f in message.files)

    def message(self) -> pb.CodeListing:
        """Return the message."""
        return pb.CodeListing(
            files=[
                pb.CodeFile(path=f.path, bytes=f.bytes, sha256=f.sha256, executable=f.executable)
                for f in self.files
            ]
        )

    @classmethod
    def of_text(cls, text: str) -> "CodeListing":
        """Return the listing of its text. Raises JobError for another text."""
        files = []
        for line in text.splitlines():
            parts = line.split(" ", 3)
            if len(parts) != 4 or not parts[1].isdecimal() or parts[2] not in ("x", "-"):
                raise JobError("code: its listing is damaged")
            files.append(CodeFile(parts[3], int(parts[1]), parts[0], parts[2] == "x"))
        listing = cls(files)
        if listing.text != text:
            raise JobError("code: its listing is damaged")
        return listing

    def _check(self) -> None:
        if not self.files:
            raise JobError("code: has no files")
        if len(self.files) > MOST_FILES:
            raise JobError(f"code: has {len(self.files):,} files, above {MOST_FILES:,}")
        if len(self.text) > MOST_LISTING_BYTES:
            raise JobError(
                f"code: the paths of its files need more than {MOST_LISTING_BYTES:,} bytes"
            )
        before: tuple[str, ...] = ()
        left = MOST_BYTES
        for file in self.files:
            check_path(file.path)
            parts = tuple(file.path.split("/"))
            if not _DIGEST.fullmatch(file.sha256):
                raise JobError(f"code: {file.path}: its sha256 is not 64 digits of 0-9 a-f")
            left -= file.bytes
            if file.bytes < 0 or left < 0:
                raise JobError(f"code: is larger than {MOST_BYTES >> 20} MiB")
            if before and not "/".join(before).encode() < file.path.encode():
                raise JobError(f"code: {file.path}: the paths are not in ascending order")
            before = parts
        paths = {file.path for file in self.files}
        for path in paths:
            above = next((str(p) for p in Path(path).parents if str(p) in paths), None)
            if above is not None:
                raise JobError(f"code: {above}: is a file and a folder")


def check_path(path: str) -> None:
    """Raise JobError for a path that is not a plain relative one inside its folder."""
    if "\\" in path or not path.isprintable():
        raise JobError(f"code: {path!r}: a path must not have a backslash or a control character")
    if path.startswith("/"):
        raise JobError(f"code: {path}: a path must be relative")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise JobError(f"code: {path!r}: a path must not have an empty part, '.' or '..'")
    if len(path.encode()) > _MOST_PATH_BYTES or any(
        len(p.encode()) > _MOST_NAME_BYTES for p in parts
    ):
        raise JobError(f"code: {path[:60]}...: the path is too long")


def is_digest(text: str) -> bool:
    """Return whether a text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None


def size_text(size: int) -> str:
    """Return a number of bytes for people: `12.3 KiB`."""
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def _line(file: CodeFile) -> str:
    return f"{file.sha256} {file.bytes} {'x' if file.executable else '-'} {file.path}\n"
