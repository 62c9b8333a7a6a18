"""What of a folder is sent to a service, and what is refused before anything is sent."""

import os
import socket
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from support.own_project import project

from coordinator.client.packing import pack_folder_of
from dfa_core.errors import JobError

pytestmark = pytest.mark.unit


def packed(file: Path) -> list[str]:
    return [one.path for one in pack_folder_of(file).listing.files]


def test_files_are_listed_with_what_they_hold(tmp_path: Path) -> None:
    file = project(tmp_path / "mine")
    (file.parent / "run.sh").write_text("echo")
    (file.parent / "run.sh").chmod(0o755)
    code = pack_folder_of(file)
    names = ["helper.py", "mytask.py", "parts/__init__.py", "parts/sizes.py", "rows.csv", "run.sh"]
    assert [one.path for one in code.listing.files] == names
    assert [one.executable for one in code.listing.files] == [False] * 5 + [True]
    for one, data in zip(code.listing.files, code.contents, strict=True):
        assert data == (file.parent / one.path).read_bytes()
        assert (one.bytes, one.sha256) == (len(data), sha256(data).hexdigest())
    chunks = list(code.chunks(100))
    assert max(map(len, chunks)) == 100
    assert b"".join(chunks) == b"".join(code.contents)


def test_gitignore_is_respected_in_every_folder_and_above(tmp_path: Path) -> None:
    """As git has it: the innermost file decides, and an ignored folder is not looked into."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n/mine/top.txt\nbuild/\n")
    file = project(tmp_path / "mine")
    names = ("a.log", "kept.log", "top.txt", "build/x.py", "parts/build/y.py", "parts/top.txt")
    for name in (*names, ".git/config", "parts/__pycache__/z.pyc", "env/lib/w.py"):
        (file.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / name).write_text("1")
    (file.parent / "env" / "pyvenv.cfg").touch()
    (file.parent / ".gitignore").write_text("# mine\n!kept.log\nrows.*\n")
    got = {*packed(file)} - {"helper.py", "mytask.py", "parts/__init__.py", "parts/sizes.py"}
    # the .git in the project makes it a repository of its own: what is above does not count
    assert got == {".gitignore", "a.log", "build/x.py", "kept.log", "parts/build/y.py",
                   "parts/top.txt", "top.txt"}  # fmt: skip
    for path in (file.parent / ".git").iterdir():
        path.unlink()
    (file.parent / ".git").rmdir()
    got = {*packed(file)} - {"helper.py", "mytask.py", "parts/__init__.py", "parts/sizes.py"}
    assert got == {".gitignore", "kept.log", "parts/top.txt"}


def test_a_link_inside_the_folder_is_sent_as_its_file(tmp_path: Path) -> None:
    file = project(tmp_path / "mine")
    (file.parent / "link.csv").symlink_to("rows.csv")
    code = pack_folder_of(file)
    found = dict(zip((one.path for one in code.listing.files), code.contents, strict=True))
    assert found["link.csv"] == found["rows.csv"]


def large(folder: Path) -> None:
    for name, size in (("a.bin", 20), ("b.bin", 12), ("c.bin", 1)):
        with (folder / name).open("wb") as file:
            file.truncate(size << 20)


def hard(folder: Path) -> None:
    os.link(folder / "rows.csv", folder.parent / "elsewhere")


def a_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(folder)
        s.bind("s")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "33 MiB": (large, "is too large to be sent: 33.0 MiB, at most 32 MiB; name in .gitignore what "
               "the task does not need; the largest: a.bin (20.0 MiB), b.bin (12.0 MiB), c.bin"),
    "a link out": (lambda f: (f / "out").symlink_to("/etc/passwd"), "out: is a link out of"),
    "a link up": (lambda f: (f / "up").symlink_to(".."), "up: is a link out of the folder"),
    "a link to a folder": (lambda f: (f / "in").symlink_to("parts"), "leads to no file"),
    "a dead link": (lambda f: (f / "dead").symlink_to("nowhere"), "leads to no file"),
    "a hard link": (hard, "rows.csv: is a hard link, 2 names of one file"),
    "a pipe": (lambda f: os.mkfifo(f / "p"), "p: is not a file but a device, a pipe or a socket"),
    "a socket": (a_socket, "s: is not a file but a device"),
    "a backslash": (lambda f: (f / "a\\b").touch(), "a path must not have a backslash"),
    "a line feed": (lambda f: (f / "a\nb").touch(), "or a control character"),
    "no text": (lambda f: (f / os.fsdecode(b"\xff")).touch(), "or a control character"),
    "ignored": (lambda f: (f / ".gitignore").write_text("*.py"), ".gitignore names it"),
    "too many": (lambda f: [(f / f"{n}").touch() for n in range(4096)], "too many files"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sent_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[Callable[[Path], object], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = project(tmp_path / "mine")
    case[0](file.parent)
    with pytest.raises(JobError) as refused:
        pack_folder_of(file)
    assert case[1] in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a device")
def test_a_device_is_refused(tmp_path: Path) -> None:
    file = project(tmp_path / "mine")
    try:
        os.mknod(file.parent / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this root may make no device")
    with pytest.raises(JobError, match="zero: is not a file but a device"):
        pack_folder_of(file)


@pytest.mark.parametrize(
    "folder",
    ["/", "home", "above the home", "/tmp", "/etc"],  # noqa: S108
)
def test_a_folder_that_is_no_projects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    home = tmp_path / "users" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    there = {"home": home, "above the home": tmp_path}.get(folder, Path(folder))
    with pytest.raises(JobError, match="its whole folder would be sent, and .* is "):
        pack_folder_of(there / "mytask.py")
