"""The code that users have uploaded, in the state folder: uploads/<user>/<digest>/.

Each holds `listing`, the files below `files/`, and what its requirements.txt asked for below
`packages/`. Nothing runs in there: a job gets a copy of its own, checked against the listing.
"""

import contextlib
import os
import secrets
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

from coordinator.job.code_listing import CodeFile, CodeListing
from coordinator.service.errors import BAD_REQUEST, DAMAGED, DISK_FULL, NO_CODE, ServiceError
from dfa_core.atomic_file import atomic_path

_UNFINISHED = ".unfinished-"
_UNUSED_S = 3600.0  # how long code stays that no job needs
_ANYONE = "-"  # the folder of the user without a name
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

Needed = set[tuple[str, str]]  # owner and digest


class Uploads:
    """All uploaded code. A user's uploads are for this user's jobs alone."""

    def __init__(self, folder: Path) -> None:
        """Remove what an earlier service had not finished."""
        self._folder, self._keeping, self._lock = folder, threading.Lock(), threading.Lock()
        self._in_use = Counter[Path]()  # by calls that make a job of them
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def place(self, owner: str, digest: str) -> Path:
        """Return the folder of a user's upload."""
        return self._folder / (owner or _ANYONE) / digest

    def packages(self, owner: str, digest: str) -> list[str]:
        """Return the folders of modules that were installed for an upload."""
        folder = self.place(owner, digest) / "packages"
        return [str(folder)] if folder.is_dir() else []

    def has(self, owner: str, digest: str) -> bool:
        """Return whether an upload is there and intact; keep it for an hour, or remove it."""
        try:
            listing = self.listing(owner, digest)
            for file in listing.files:
                with _opened(self.place(owner, digest) / "files", file) as source:
                    _check(file, source.read())
        except ServiceError as error:
            if error.kind is DAMAGED:
                self.remove(owner, digest)
            return False
        return True

    def listing(self, owner: str, digest: str) -> CodeListing:
        """Return the listing of an upload, and keep it for an hour. Raises ServiceError."""
        place = self.place(owner, digest)
        try:
            text = (place / "listing").read_text(encoding="utf-8")
            os.utime(place)
            listing = CodeListing.of_text(text)
        except FileNotFoundError as error:
            raise ServiceError(
                NO_CODE,
                f"code {digest[:12]} was not uploaded by its user, or is gone; send it again",
            ) from error
        except (OSError, ValueError) as error:
            raise _damaged("its listing") from error
        if listing.digest != digest:
            raise _damaged("its listing")
        return listing

    def unpack(self, owner: str, digest: str, to: Path) -> CodeListing:
        """Copy an upload's files into a folder, where they are not there already.

        Other files in that folder stay. Raises ServiceError where a file of the upload was changed.
        """
        listing, source = self.listing(owner, digest), self.place(owner, digest) / "files"
        for file in listing.files:
            with _opened(source, file) as content:
                data = content.read()
            _check(file, data)
            if not _holds(to, file):
                _put(to, file, data)
        return listing

    @contextmanager
    def unpacked(self, owner: str, digest: str) -> Iterator[Path]:
        """Give, inside the block, a folder with a copy of an upload. Raises as unpack() does."""
        place = self.place(owner, digest)
        with self._lock:
            self._in_use[place] += 1
        try:
            with self.unfinished() as folder:
                self.unpack(owner, digest, folder / "files")
                yield folder / "files"
        finally:
            with self._lock:
                self._in_use[place] -= 1

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """Give an empty folder that is removed after the block. Raises ServiceError."""
        folder = self._folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with _writing():
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            _remove(folder)

    def keep(self, unfinished: Path, owner: str, listing: CodeListing) -> None:
        """Make a complete folder a user's upload, unless it is there. Raises ServiceError."""
        place = self.place(owner, listing.digest)
        with self._keeping, _writing():
            self.has(owner, listing.digest)  # a damaged one makes room
            if place.is_dir():  # another call has been faster with the same files
                return
            (unfinished / "listing").write_text(listing.text, encoding="utf-8")
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(place) as last:
                os.rename(unfinished, last)  # noqa: PTH104

    def unused(self, owner: str, needed: Needed) -> int:
        """Return the number of a user's uploads that no job needs."""
        folder = self.place(owner, "x").parent
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sum((owner, name) not in needed for name in names)

    def collect(self, needed: Needed, unused_s: float = _UNUSED_S) -> None:
        """Remove the uploads that no job needs and nobody has asked for in this many seconds."""
        kept = {self.place(owner, digest) for owner, digest in needed}
        found: list[Path] = []
        with contextlib.suppress(OSError):  # one may be removed just now
            found.extend(self._folder.glob("*/*"))
        for place in found:
            if place in kept or place.parent.name.startswith(_UNFINISHED):
                continue
            with contextlib.suppress(OSError):
                if time.time() - place.stat().st_mtime > unused_s:
                    self._discard(place)

    def remove(self, owner: str, digest: str) -> None:
        """Remove an upload, if it is there, and no call is just making a job of it."""
        self._discard(self.place(owner, digest))

    def _discard(self, place: Path) -> None:
        """Take a folder away at once, so that nobody finds half of it; then remove its files."""
        gone = self._folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with self._lock:
            if self._in_use[place]:
                return
            with contextlib.suppress(OSError):
                place.rename(gone)
        _remove(gone)


class Incoming:
    """Takes the contents of a listing's files, one after another, into a folder."""

    def __init__(self, folder: Path, listing: CodeListing) -> None:
        self._folder, self._left = folder, list(reversed(listing.files))
        self._data, self._all, self._got = bytearray(), listing.bytes, 0

    def take(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ServiceError for more than listed, or for other ones."""
        self._got += len(chunk)
        if self._got > self._all:
            raise ServiceError(
                BAD_REQUEST, f"code: more than the listed {self._all:,} bytes arrived"
            )
        self._data += chunk
        self._write_complete()

    def finish(self) -> None:
        """Raise ServiceError if bytes are missing."""
        self._write_complete()
        if self._left:
            raise ServiceError(
                BAD_REQUEST, f"code: {self._got:,} of the listed {self._all:,} bytes arrived"
            )

    def _write_complete(self) -> None:
        while self._left and len(self._data) >= self._left[-1].bytes:
            file = self._left.pop()
            data = bytes(self._data[: file.bytes])
            del self._data[: file.bytes]
            if sha256(data).hexdigest() != file.sha256:
                raise ServiceError(
                    DAMAGED, f"code: {file.path} was changed on the way: its SHA-256 is another"
                )
            _put(self._folder, file, data)


def _put(folder: Path, file: CodeFile, data: bytes) -> None:
    """Write a file again: what is in its place is removed, so that no link is followed.

    Raises ServiceError.
    """
    with _writing():
        _replace(folder, file, data)


def _replace(folder: Path, file: CodeFile, data: bytes) -> None:
    place = folder
    place.mkdir(parents=True, exist_ok=True)
    for part in file.path.split("/")[:-1]:
        place /= part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(exist_ok=True)
    path = folder / file.path
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
    mode = 0o755 if file.executable else 0o644
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(unfinished, path)  # noqa: PTH105  # a running job may read it


def _holds(folder: Path, file: CodeFile) -> bool:
    """Return whether a folder has this file, with this content."""
    try:
        with _opened(folder, file) as found:
            _check(file, found.read())
    except ServiceError:
        return False
    return True


@contextmanager
def _opened(folder: Path, file: CodeFile) -> Iterator[IO[bytes]]:
    """Open a file that is a plain one, on a way without links. Raises ServiceError."""
    way = [folder / part for part in Path(file.path).parents]
    try:
        if any(place.is_symlink() for place in way):
            raise _damaged(file.path)
        descriptor = os.open(folder / file.path, _READ | os.O_NONBLOCK)
    except OSError as error:
        raise _damaged(file.path) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != file.bytes:
        os.close(descriptor)
        raise _damaged(file.path)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _check(file: CodeFile, data: bytes) -> None:
    if sha256(data).hexdigest() != file.sha256:
        raise _damaged(file.path)


def _damaged(what: str) -> ServiceError:
    return ServiceError(
        DAMAGED, f"code: {what} was changed on the disk of the service; submit the job again"
    )


@contextmanager
def _writing() -> Iterator[None]:
    """Raise ServiceError for an OSError."""
    try:
        yield
    except OSError as error:
        raise ServiceError(DISK_FULL, f"the code cannot be written: {error.strerror}") from error


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
