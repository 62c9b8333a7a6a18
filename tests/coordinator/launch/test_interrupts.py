"""Signals that end a run, without a run; tests/coordinator/cli/test_processes.py has real ones."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import ray

from coordinator.launch.interrupts import ended_as_by_ctrl_c, kept_from_ray, noted_interrupts

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def received(number: int, _: object) -> None:
    raise InterruptedError(number)


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """As at a terminal: what a shell starts in the background has interrupts ignored."""
    before = {number: signal.signal(number, received) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_noted_and_the_second_acts_as_before(number: int) -> None:
    with noted_interrupts() as noted:
        signal.raise_signal(number)
        assert noted == [number]
        with pytest.raises(InterruptedError):
            signal.raise_signal(number)
    assert all(signal.getsignal(one) is received for one in ENDING)


def test_a_closed_terminal_is_noted_once_however_often_it_is_told() -> None:
    """The kernel and the shell both tell of it, and the state is being saved by then."""
    with noted_interrupts() as noted:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert noted == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) is received


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_where_nothing_is_saved_a_signal_interrupts(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), ended_as_by_ctrl_c():
        signal.raise_signal(number)
    assert signal.getsignal(number) is received


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_as_by_ctrl_c(), noted_interrupts() as noted:
        signal.raise_signal(signal.SIGHUP)
    assert noted == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.blocks
def test_what_is_started_for_a_run_does_not_get_the_signal_of_its_terminal() -> None:
    with kept_from_ray():
        ray._private.utils.set_sigterm_handler(signal.SIG_DFL)  # while Ray starts
        assert signal.getsignal(signal.SIGTERM) is received
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray may do otherwise
        code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print(1)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert signal.getsignal(signal.SIGTERM) is received
    with pytest.raises(InterruptedError):
        signal.raise_signal(signal.SIGHUP)


@pytest.mark.blocks
def test_printing_after_the_terminal_was_closed_fails_no_more() -> None:
    ours, theirs = pty.openpty()
    code = (
        "import signal, sys, time\n"
        "from coordinator.launch.interrupts import noted_interrupts\n"
        "with noted_interrupts() as noted:\n"
        "    print('ready', flush=True)\n"
        "    while not noted: time.sleep(0.01)\n"
        "    print('saved', flush=True)\n"
        "sys.exit(7)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: os.login_tty(0),  # noqa: PLW1509
    )
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert run.wait(timeout=20) == 7
