"""Folders of checkpoints: on a disk, or in an object store (any fsspec URL)."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dfa_core import JobError
from dfa_core.atomic_file import write_atomically


class Folder(Protocol):
    """A folder of files, each written completely or not at all; it can be sent to a process."""

    @property
    def on_disk(self) -> Path | None:
        """Return its path on this machine, or None for a folder in an object store."""

    def child(self, name: str) -> "Folder":
        """Return a folder inside, which need not exist."""

    def names(self) -> list[str]:
        """Return the names of its files and folders; none where the folder does not exist."""

    def sizes(self) -> dict[str, int]:
        """Return the sizes of its files in bytes, by name."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file and wait until it is stored. Raises OSError when the write fails."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises OSError when it cannot be read."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it, if it exists."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on a disk."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def on_disk(self) -> Path:
        """Return its path."""
        return self.path

    def child(self, name: str) -> Folder:
        """Return a folder inside."""
        return LocalFolder(self.path / name)

    def names(self) -> list[str]:
        """Return the names of its files and folders."""
        return [p.name for p in self.path.iterdir()] if self.path.is_dir() else []

    def sizes(self) -> dict[str, int]:
        """Return the sizes of its files."""
        files = [p for p in self.path.iterdir() if p.is_file()] if self.path.is_dir() else []
        return {p.name: p.stat().st_size for p in files}

    def write(self, name: str, data: bytes) -> None:
        """Write under another name, sync, rename, sync: a crash leaves all of the file or none."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / name, data)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.path / name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it."""
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that fsspec reaches; an object store stores a file completely or not at all."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def on_disk(self) -> Path | None:
        """Return its path if the URL is that of a folder on this machine."""
        files, path = self._files()
        return Path(path) if isinstance(files, LocalFileSystem) else None

    def child(self, name: str) -> Folder:
        """Return a folder inside."""
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")

    def names(self) -> list[str]:
        """Return the names of its files and folders."""
        return [_last_part(entry["name"]) for entry in self._entries()]

    def sizes(self) -> dict[str, int]:
        """Return the sizes of its files."""
        entries = [entry for entry in self._entries() if entry["type"] == "file"]
        return {_last_part(entry["name"]): entry["size"] for entry in entries}

    def write(self, name: str, data: bytes) -> None:
        """Put a file."""
        files, path = self._files()
        files.makedirs(path, exist_ok=True)
        files.pipe_file(f"{path}/{name}", data)

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        files, path = self._files()
        data: bytes = files.cat_file(f"{path}/{name}")
        return data

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all in it."""
        files, path = self._files()
        with contextlib.suppress(FileNotFoundError):
            files.rm(f"{path}/{name}", recursive=True)

    def _entries(self) -> list[dict[str, Any]]:
        files, path = self._files()
        files.invalidate_cache()  # other processes write there too
        try:
            entries: list[dict[str, Any]] = files.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return entries

    def _files(self) -> tuple[Any, str]:
        files, path = url_to_fs(self.url)  # type: ignore[no-untyped-call]
        return files, str(path).rstrip("/")


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def open_folder(place: str) -> Folder:
    """Return the folder at a path, or at a URL such as s3://bucket/runs.

    Raises JobError when fsspec does not know the protocol, or needs a package for it.
    """
    if "://" not in place:
        return LocalFolder(Path(place))
    try:
        url_to_fs(place)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise JobError(f"{place}: cannot be opened: {error}") from error
    return RemoteFolder(place)
