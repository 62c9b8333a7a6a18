"""Runs `errorcast` for tests: in this process, or as a real one.

Most tests need what a command prints, writes and exits with. They call it in this process, which
costs no imports, and its jobs use the Ray that is running here (fixture `a_ray`). Signals, kills
and what a shell sees need a real process.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ERRORCAST = Path(sys.executable).parent / "errorcast"
TERMINAL = {"COLUMNS": "120", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Result:
    """What a command ended with."""

    code: int
    out: str
    err: str


def run_errorcast(
    *arguments: str, cwd: Path | None = None, encoding: str = "utf-8", **environment: str
) -> Result:
    """Call the command line's own main() in this process; capture all that it prints.

    cwd: the folder to run in, if not this one. Modules imported from it are forgotten afterwards.
    encoding: of stdout and stderr.
    """
    from coordinator.cli.main import main

    with ExitStack() as at_end:
        at_end.enter_context(mock.patch.dict(os.environ, {**TERMINAL, **environment}))
        at_end.enter_context(mock.patch.object(sys, "argv", ["errorcast", *arguments]))
        if cwd is not None:
            at_end.enter_context(chdir(cwd))
            at_end.enter_context(own_imports(cwd.absolute()))
        out, err = (
            at_end.enter_context(_captured(name, encoding)) for name in ("stdout", "stderr")
        )
        try:
            main()
            code: int | str | None = None
        except SystemExit as ended:
            code = ended.code
        printed = _read(out), _read(err)
    return Result(int(code or 0), *printed)


def errorcast_process(*arguments: str, cwd: Path, **environment: str) -> Result:
    """Run the installed script, as a shell does."""
    done = subprocess.run(
        [str(ERRORCAST), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, **TERMINAL, **environment},
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@contextmanager
def started_errorcast(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the installed script; what it leaves running is killed."""
    run = subprocess.Popen(
        [str(ERRORCAST), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **TERMINAL},
    )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()


@contextmanager
def _captured(name: str, encoding: str) -> Iterator[int]:
    """Redirect a stream and its file descriptor, which C++ code writes to, into a file."""
    stream = getattr(sys, name)
    number = {"stdout": 1, "stderr": 2}[name]
    stream.flush()
    kept = os.dup(number)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), number)
        try:
            with os.fdopen(number, "w", encoding=encoding, closefd=False) as written:
                setattr(sys, name, written)
                yield file.fileno()
        finally:
            setattr(sys, name, stream)
            os.dup2(kept, number)
            os.close(kept)


def _read(file: int) -> str:
    sys.stdout.flush()
    sys.stderr.flush()
    return os.pread(file, os.fstat(file).st_size, 0).decode()


@contextmanager
def own_imports(folder: Path) -> Iterator[None]:
    """Forget afterwards what was imported from a folder, and that it was searched."""
    path, before = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in sys.modules.keys() - before:
            if folder in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
                del sys.modules[name]
