"""Uploaded code on the disk of the service: all of it or nothing, and nothing that was changed."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.own_project import project

from coordinator.client.packing import PackedCode, pack_folder_of
from coordinator.service.errors import DAMAGED, NO_CODE, ServiceError
from coordinator.service.jobs.uploads import Incoming, Uploads

pytestmark = pytest.mark.unit


@pytest.fixture
def code(tmp_path: Path) -> PackedCode:
    return pack_folder_of(project(tmp_path / "mine"))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def kept(uploads: Uploads, code: PackedCode, owner: str = "alice", size: int = 100) -> Path:
    with uploads.unfinished() as folder:
        incoming = Incoming(folder / "files", code.listing)
        for chunk in code.chunks(size):
            incoming.take(chunk)
        incoming.finish()
        uploads.keep(folder, owner, code.listing)
    return uploads.place(owner, code.listing.digest)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_copy_is_what_was_sent(
    uploads: Uploads, code: PackedCode, tmp_path: Path, size: int
) -> None:
    kept(uploads, code, size=size)
    uploads.unpack("alice", code.listing.digest, tmp_path / "job" / "code")
    assert names(tmp_path / "job" / "code") == [one.path for one in code.listing.files]
    for one, data in zip(code.listing.files, code.contents, strict=True):
        assert (tmp_path / "job" / "code" / one.path).read_bytes() == data
    assert uploads.has("alice", code.listing.digest)
    assert not uploads.has("bob", code.listing.digest)  # another user's is not his
    assert not uploads.has("", code.listing.digest)


def test_a_start_puts_changed_files_back_and_leaves_the_others(
    uploads: Uploads, code: PackedCode, tmp_path: Path
) -> None:
    """Also where a link or a folder took a file's place: what it leads to is not touched."""
    kept(uploads, code)
    job, outside = tmp_path / "job", tmp_path / "outside"
    uploads.unpack("alice", code.listing.digest, job)
    (job / "made-by-the-job").write_text("1")
    same = (job / "mytask.py").stat().st_ino
    outside.mkdir()
    (outside / "sizes.py").write_text("not yours")
    (job / "helper.py").unlink()
    (job / "helper.py").symlink_to(outside / "sizes.py")
    shutil.rmtree(job / "parts")
    (job / "parts").symlink_to(outside)
    (job / "rows.csv").unlink()
    (job / "rows.csv").mkdir()
    uploads.unpack("alice", code.listing.digest, job)
    assert (outside / "sizes.py").read_text() == "not yours"
    assert names(outside) == ["sizes.py"]
    assert names(job) == sorted([*(one.path for one in code.listing.files), "made-by-the-job"])
    for one, data in zip(code.listing.files, code.contents, strict=True):
        assert (job / one.path).read_bytes() == data
    assert (job / "mytask.py").stat().st_ino == same


def linked(place: Path) -> None:
    (place / "files" / "helper.py").unlink()
    (place / "files" / "helper.py").symlink_to("mytask.py")


CHANGED: dict[str, Callable[[Path], object]] = {
    "a byte": lambda p: (p / "files" / "helper.py").write_text("import os\n"),
    "the same size": lambda p: (p / "files" / "rows.csv").write_bytes(
        bytes((p / "files" / "rows.csv").stat().st_size)
    ),
    "gone": lambda p: (p / "files" / "helper.py").unlink(),
    "a link": linked,
    "a hard link": lambda p: os.link(p / "files" / "helper.py", p / "elsewhere"),
    "a linked folder": lambda p: (
        (p / "files" / "parts").rename(p / "parts"),
        (p / "files" / "parts").symlink_to(p / "parts"),
    ),
    "the listing": lambda p: (p / "listing").write_text(
        (p / "listing").read_text().replace("helper.py", "helped.py")
    ),
    "no listing": lambda p: (p / "listing").write_bytes(b"\xff"),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_what_was_changed_on_the_disk_is_refused_and_sent_again(
    uploads: Uploads, code: PackedCode, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    place = kept(uploads, code)
    change(place)
    with (
        pytest.raises(ServiceError, match="was changed on the disk of the service") as refused,
        uploads.unpacked("alice", code.listing.digest),
    ):
        pass
    assert refused.value.kind is DAMAGED
    assert names(place.parents[1]) == [f"alice/{n}" for n in names(place.parent)]  # no copy
    assert not uploads.has("alice", code.listing.digest)
    assert not place.exists()
    kept(uploads, code)
    assert uploads.has("alice", code.listing.digest)


def other_byte(data: bytes) -> bytes:
    return bytes([data[0] ^ 1, *data[1:]])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (lambda data: data + b"x", "more than the"),
        (lambda data: data[:-1], "of the listed"),
        (lambda _: b"", "0 of the"),
        (other_byte, "helper.py was changed on the way"),
        (lambda data: data[1:] + data[:1], "was changed on the way"),
    ],
)
def test_nothing_is_left_of_what_arrived_otherwise(
    uploads: Uploads,
    code: PackedCode,
    tmp_path: Path,
    sent: Callable[[bytes], bytes],
    text: str,
) -> None:
    with pytest.raises(ServiceError, match=text), uploads.unfinished() as folder:
        incoming = Incoming(folder / "files", code.listing)
        data = sent(b"".join(code.contents))
        for start in range(0, len(data), 500):
            incoming.take(data[start : start + 500])
        incoming.finish()
    assert names(tmp_path / "uploads") == []


def test_the_same_content_at_the_same_time(uploads: Uploads, code: PackedCode) -> None:
    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(lambda _: kept(uploads, code), range(8)))
    (place,) = places
    assert [p.name for p in place.parent.iterdir()] == [place.name]
    assert uploads.has("alice", code.listing.digest)


def test_what_nobody_needs_is_removed(uploads: Uploads, code: PackedCode, tmp_path: Path) -> None:
    digest = code.listing.digest
    place, others = kept(uploads, code), kept(uploads, code, "bob")
    assert uploads.unused("alice", set()) == 1
    assert uploads.unused("alice", {("alice", digest)}) == 0
    uploads.collect(set())
    assert place.is_dir()  # it has just been uploaded
    uploads.collect({("alice", digest)}, unused_s=0)
    assert place.is_dir()
    assert not others.exists()
    with uploads.unpacked("alice", digest):  # a job is being made of it
        uploads.collect(set(), unused_s=0)
        uploads.remove("alice", digest)
        assert place.is_dir()
    uploads.remove("alice", digest)
    assert not place.exists()
    with pytest.raises(ServiceError, match="is gone; send it again") as refused:
        uploads.listing("alice", digest)
    assert refused.value.kind is NO_CODE


def test_a_killed_service_leaves_nothing_unfinished(tmp_path: Path, code: PackedCode) -> None:
    left = tmp_path / "uploads" / ".unfinished-0123"
    (left / "files").mkdir(parents=True)
    (left / "files" / "half.py").touch()
    uploads = Uploads(tmp_path / "uploads")
    assert names(tmp_path / "uploads") == []
    place = kept(uploads, code)
    Uploads(tmp_path / "uploads")
    assert place.is_dir()
