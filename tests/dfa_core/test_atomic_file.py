"""A file or folder that appears completely or not at all, and a lock."""

from pathlib import Path

import pytest

from dfa_core.atomic_file import atomic_path, locked_file, write_atomically


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    with pytest.raises(ValueError, match="half"), atomic_path(tmp_path / "file") as unfinished:
        unfinished.write_bytes(b"new")
        raise ValueError("half written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_appears_at_once_and_is_not_replaced(tmp_path: Path) -> None:
    for content in ("first", "second"):
        try:
            with atomic_path(tmp_path / "folder") as unfinished:
                unfinished.mkdir()
                (unfinished / "file").write_text(content)
        except OSError:
            assert content == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "first"


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with (
        locked_file(tmp_path / "lock"),
        pytest.raises(BlockingIOError),
        locked_file(tmp_path / "lock"),
    ):
        pass
    with locked_file(tmp_path / "lock"):
        pass
