"""Packs the folder of a task's file, to be sent to a service.

What .gitignore names stays here, and so do .git, __pycache__ and virtual environments.
"""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import nlargest
from pathlib import Path

from pathspec import GitIgnoreSpec

from coordinator.job.code_listing import (
    MOST_BYTES,
    MOST_FILES,
    CodeFile,
    CodeListing,
    check_path,
    size_text,
)
from dfa_core.errors import JobError

_NEVER = (".git", "__pycache__")
_ENVIRONMENT = "pyvenv.cfg"  # a virtual environment has it
_IGNORE = "name it in .gitignore"
_SHOWN = 5  # of the largest files
_SYSTEM = frozenset(
    Path("/", *name.split())
    for name in (
        *("", "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc"),
        *("root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "var tmp", "usr local"),
    )
)


@dataclass(frozen=True)
class PackedCode:
    """The files of a folder when it was packed, and their contents in the listing's order."""

    listing: CodeListing
    contents: Sequence[bytes]

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield all contents, one after another, in chunks of at most this many bytes."""
        waiting = bytearray()
        for content in self.contents:
            waiting += content
            while len(waiting) > size:
                yield bytes(waiting[:size])
                del waiting[:size]
        if waiting:
            yield bytes(waiting)


def pack_folder_of(file: Path) -> PackedCode:
    """Read the folder of a task's file. Raises JobError for one that cannot be sent."""
    folder = file.parent.resolve()
    _check_place(folder, file)
    ignored = _Ignored.of(folder)
    found = dict(sorted(_files(folder, folder, ignored), key=lambda pair: pair[0].encode()))
    if file.name not in found:
        raise JobError(f"{file}: .gitignore names it, so it would not be sent; remove it there")
    _check_size(folder, found)
    contents = [_read(path, shown) for shown, path in found.items()]
    files = [
        CodeFile(shown, len(data), sha256(data).hexdigest(), os.access(path, os.X_OK))
        for (shown, path), data in zip(found.items(), contents, strict=True)
    ]
    return PackedCode(CodeListing(files), contents)


def _check_place(folder: Path, file: Path) -> None:
    """Raise JobError for a folder that is no project's, such as the home folder."""
    try:
        home: Path | None = Path.home().resolve()
    except RuntimeError:  # this account has none
        home = None
    places = {*_SYSTEM, Path(tempfile.gettempdir()).resolve()}
    if home is not None and home.is_relative_to(folder):
        what = "the home folder" if home == folder else "above the home folder"
    elif folder in places:
        what = "no folder of a project"
    else:
        return
    raise JobError(
        f"{file}: its whole folder would be sent, and {folder} is {what}; put the task and the "
        f"files that it needs into a folder of their own"
    )


def _files(folder: Path, root: Path, ignored: "_Ignored") -> Iterator[tuple[str, Path]]:
    """Yield path below the root, and place, of all files that are to be sent."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise JobError(f"{folder}: cannot be read: {error.strerror}; {_IGNORE}") from error
    for entry in entries:
        path = Path(entry.path)
        shown = str(path.relative_to(root))
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or ignored.names(path, is_folder):
            continue
        if is_folder:
            if not (path / _ENVIRONMENT).exists():
                yield from _files(path, root, ignored.below(path))
            continue
        check_path(shown)
        _check_kind(path, shown, root)
        yield shown, path


def _check_kind(path: Path, shown: str, root: Path) -> None:
    """Raise JobError for what is not a file of this folder alone."""
    if path.is_symlink():
        target = path.resolve()
        if not target.is_relative_to(root):
            raise JobError(
                f"{shown}: is a link out of the folder, to {target}; copy it, or {_IGNORE}"
            )
        if not target.is_file():
            raise JobError(f"{shown}: is a link that leads to no file; {_IGNORE}")
        path = target
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise JobError(f"{shown}: is not a file but a device, a pipe or a socket; {_IGNORE}")
    if found.st_nlink > 1:
        raise JobError(
            f"{shown}: is a hard link, {found.st_nlink} names of one file, so it may lie outside "
            f"of the folder too; copy it, or {_IGNORE}"
        )


def _check_size(folder: Path, found: dict[str, Path]) -> None:
    sizes = {shown: path.stat().st_size for shown, path in found.items()}
    total = sum(sizes.values())
    largest = nlargest(_SHOWN, sizes.items(), key=lambda pair: pair[1])
    named = ", ".join(f"{shown} ({size_text(size)})" for shown, size in largest)
    if total > MOST_BYTES:
        raise JobError(
            f"{folder}: is too large to be sent: {size_text(total)}, at most {MOST_BYTES >> 20} "
            f"MiB; name in .gitignore what the task does not need; the largest: {named}"
        )
    if len(found) > MOST_FILES:
        raise JobError(
            f"{folder}: has too many files to be sent: {len(found):,}, at most {MOST_FILES:,}; "
            f"name in .gitignore what the task does not need; the largest: {named}"
        )


def _read(path: Path, shown: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"{shown}: cannot be read: {error.strerror}; {_IGNORE}") from error
    if len(data) > MOST_BYTES:  # it grew meanwhile
        raise JobError(f"{shown}: is larger than {MOST_BYTES >> 20} MiB; {_IGNORE}")
    return data


@dataclass(frozen=True)
class _Ignored:
    """The .gitignore files from a repository's root down to a folder, the outermost first."""

    rules: tuple[tuple[Path, GitIgnoreSpec], ...] = ()

    @classmethod
    def of(cls, folder: Path) -> "_Ignored":
        """Read those that count in a folder: its own, and those above it in its repository."""
        above = [folder, *folder.parents]
        root = next((n for n, place in enumerate(above) if (place / ".git").exists()), 0)
        ignored = cls()
        for place in reversed(above[: root + 1]):
            ignored = ignored.below(place)
        return ignored

    def below(self, folder: Path) -> "_Ignored":
        """Return the rules for a folder that these rules do not name."""
        file = folder / ".gitignore"
        if not file.is_file():
            return self
        try:
            spec = GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as error:
            raise JobError(f"{file}: cannot be read: {error}") from error
        return _Ignored((*self.rules, (folder, spec)))

    def names(self, path: Path, is_folder: bool) -> bool:
        """Return whether the innermost rule that knows a path leaves it out."""
        for folder, spec in reversed(self.rules):
            shown = str(path.relative_to(folder)) + ("/" if is_folder else "")
            found = spec.check_file(shown).include
            if found is not None:
                return found
        return False
