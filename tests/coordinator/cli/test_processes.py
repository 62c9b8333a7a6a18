"""The command line where the process itself matters: signals, kills, imports, the real script."""

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.command_line import (
    ERRORCAST,
    TERMINAL,
    errorcast_process,
    run_errorcast,
    started_errorcast,
)
from support.in_process import train_here
from support.ray_processes import ray_processes
from support.runs import losses, wait_for_line, weights

QUICK = ("--set", "log_every=1", "--set", "options.width=64")
ENDLESS = ("train", "digits", "--run-dir", "run", "--epochs", "5000", "--blocks", "1", *QUICK)


@pytest.mark.blocks
def test_the_help_of_the_real_script_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; sys.argv = ['errorcast', '--help']\n"
        "from coordinator.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'ray'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.blocks
def test_the_real_script_exits_with_2_where_no_cluster_can_be_joined(tmp_path: Path) -> None:
    done = errorcast_process("train", "digits", "--ray-address", "127.0.0.1:1", cwd=tmp_path)
    assert done.code == 2
    assert "no Ray cluster could be joined" in done.err
    assert done.err.count("\n") == 1, done.err


@pytest.mark.timeout(240)
def test_ctrl_c_saves_and_resume_gives_the_same_bits(a_ray: None, tmp_path: Path) -> None:
    arguments = ("train", "digits", "--run-dir", "run", "--epochs", "200", *QUICK)
    with started_errorcast(*arguments, cwd=tmp_path) as run:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "train", run)
        run.send_signal(signal.SIGINT)
        shown, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "continue with:\n  errorcast train" in shown
    assert "Traceback" not in errors + shown
    stopped = max(losses(tmp_path / "run"))
    epochs = stopped // 22 + 1
    done = run_errorcast(
        "train", "run", "--resume", "--epochs", str(epochs), "--blocks", "1", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert f"resumed from the checkpoint of step {stopped}" in done.out
    train_here("digits", tmp_path / "whole", epochs=epochs, log_every=1, options={"width": 64})
    assert sorted(losses(tmp_path / "run")) == list(range(1, epochs * 22 + 1))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@contextmanager
def at_a_line(metrics: Path, kind: str, act: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread as soon as a run has written a line of this kind."""

    def watch() -> None:
        wait_for_line(metrics, kind)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("target", ["the command", "ray::TrainingWork"])
def test_a_notice_of_preemption_saves_first(a_ray: None, tmp_path: Path, target: str) -> None:
    """SIGTERM, to the command or to the training actor alone: the machine is taken away."""

    def notify() -> None:
        pid = os.getpid() if target == "the command" else ray_processes(target)[-1]
        os.kill(pid, signal.SIGTERM)

    with at_a_line(tmp_path / "run" / "metrics.jsonl", "train", notify):
        done = run_errorcast(*ENDLESS, cwd=tmp_path)
    assert done.code == 130, done.err
    stopped = max(losses(tmp_path / "run"))
    assert f"stopped and saved at step {stopped}; continue with:\n  errorcast train" in done.out
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:09d}" / "manifest.json").is_file()
    assert "Traceback" not in done.err + done.out


def test_the_command_that_continues_a_run_can_be_pasted(a_ray: None, tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    end = partial(os.kill, os.getpid(), signal.SIGTERM)
    with at_a_line(folder / "run" / "metrics.jsonl", "train", end):
        done = run_errorcast(*ENDLESS, cwd=folder)
    assert done.code == 130, done.err
    command = shlex.split(done.out.splitlines()[-1])
    assert command == ["errorcast", "train", str(folder / "run"), "--resume"]


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_closed_terminal_saves_first_and_leaves_no_process(tmp_path: Path) -> None:
    """SIGHUP goes to every process that was started from the terminal, Ray's too."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [str(ERRORCAST), *ENDLESS],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **TERMINAL},
        preexec_fn=log_in,  # noqa: PLW1509
    )
    os.close(theirs)
    shown = threading.Thread(target=read_all, args=(ours,), daemon=True)
    shown.start()
    try:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "train")
        started = psutil.Process(run.pid).children(recursive=True)
        assert len(started) > 3
        os.dup2(os.open(os.devnull, os.O_RDWR), ours)  # closes the terminal while it is read
        assert run.wait(timeout=60) == 130
    finally:
        run.kill()
    stopped = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:09d}" / "manifest.json").is_file()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []


def log_in() -> None:
    """Be what a terminal starts; the tests may run under nohup, whose ignored SIGHUP is kept."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.login_tty(0)


def read_all(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


MUST_NOT_RECOVER = (*ENDLESS, "--set", "faults.recoveries=0")


def assert_died_with_one_line(code: int, shown: str, errors: str) -> None:
    assert code == 1, errors
    assert errors.count("\n") == 1, errors
    assert "died" in errors
    assert "--resume" in errors
    assert "Traceback" not in errors + shown


def assert_continues(folder: Path) -> None:
    more = ("--set", "resources.timeout_s=60", "--epochs", "1")
    done = run_errorcast("train", "run", "--resume", *more, cwd=folder)
    assert done.code == 0, done.err
    assert "resumed from the checkpoint" in done.out


def test_a_killed_worker_ends_a_run_that_must_not_recover(a_ray: None, tmp_path: Path) -> None:
    """In a process of its own: Ray must not write of it on the terminal."""
    with started_errorcast(*MUST_NOT_RECOVER, cwd=tmp_path) as run:
        wait_for_line(tmp_path / "run" / "metrics.jsonl", "evaluation", run)
        os.kill(ray_processes("ray::BlockWorker", run.pid)[0], signal.SIGKILL)
        shown, errors = run.communicate(timeout=60)
    assert_died_with_one_line(run.returncode, shown, errors)
    assert_continues(tmp_path)


def test_a_killed_training_actor_ends_a_run_that_must_not_recover(
    a_ray: None, tmp_path: Path
) -> None:
    def kill() -> None:
        os.kill(ray_processes("ray::TrainingWork")[-1], signal.SIGKILL)

    with at_a_line(tmp_path / "run" / "metrics.jsonl", "evaluation", kill):
        done = run_errorcast(*MUST_NOT_RECOVER, cwd=tmp_path)
    assert_died_with_one_line(done.code, done.out, done.err)
    assert_continues(tmp_path)


@pytest.mark.ray
def test_files_named_like_our_packages_do_not_get_in_the_way(tmp_path: Path) -> None:
    """Neither in the folder nor on PYTHONPATH, which Ray's processes inherit."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("workers", "coordinator", "tasks", "proto", "dfa_core", "dfa_tasks"):
        for folder in (tmp_path, mine):
            (folder / f"{name}.py").write_text("raise RuntimeError('the wrong file')\n")
    job = ("train", "digits", "--run-dir", "run", *QUICK, "--epochs", "1", "--blocks", "1")
    done = errorcast_process(*job, cwd=tmp_path, PYTHONPATH=str(mine))
    assert done.code == 0, done.err
