"""The folder of Ray's sockets: one whose path is too long is named before Ray starts."""

import datetime
from pathlib import Path

import pytest
from support.command_line import run_errorcast

from dfa_core.errors import JobError
from workers.machine.ray_folder import _APPENDED, check_sockets, default_folder


def test_the_longest_path_that_fits() -> None:
    now = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d_%H-%M-%S_%f")
    as_ray_makes_it = f"/session_{now}_4194304/sockets/plasma_store"
    assert len(as_ray_makes_it) == _APPENDED
    check_sockets(Path("/" + "x" * (106 - _APPENDED)))
    with pytest.raises(JobError, match="TMPDIR: .* is 1 characters too long for the paths of Ray"):
        check_sockets(Path("/" + "x" * (107 - _APPENDED)))
    with pytest.raises(JobError):  # bytes count
        check_sockets(Path("/" + "é" * ((107 - _APPENDED) // 2 + 1)))


def test_rays_own_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert default_folder() == Path("/tmp/ray")  # noqa: S108
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "here")
    assert default_folder() == tmp_path / "here" / "ray"
    monkeypatch.setenv("RAY_TMPDIR", "/r")
    assert default_folder() == Path("/r/ray")


@pytest.mark.parametrize("command", [("train", "digits"), ("serve", "--listen", "127.0.0.1:0")])
def test_train_and_serve_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    import tempfile

    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = run_errorcast(*command, cwd=tmp_path, TMPDIR=str(long), RAY_TMPDIR="")
    assert done.code == 2
    assert f"TMPDIR: {long}" in done.err
    assert "set TMPDIR to a folder with a shorter path" in done.err
    assert done.err.count("\n") == 1
