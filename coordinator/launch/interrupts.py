"""Signals that end a run: Ctrl-C, SIGTERM, and SIGHUP of a terminal that was closed."""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None


@contextmanager
def noted_interrupts(noted: list[int] | None = None) -> Iterator[list[int]]:
    """Note the first signal to end in a list; a second Ctrl-C or SIGTERM acts as before.

    noted: the list; a new one by default.

    Noted and not raised: an exception that hits the wrong line, such as the end of an object's
    life, is lost, and the run would continue.
    """
    noted = [] if noted is None else noted
    before: dict[int, Handler] = {}

    def note(number: int, _: object) -> None:
        noted.append(number)
        if not hung_up(number):
            signal.signal(number, before[number])

    with _handled(note, before, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield noted


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt inside the block, as Ctrl-C does."""

    def interrupt(number: int, _: object) -> None:
        hung_up(number)
        raise KeyboardInterrupt

    with _handled(interrupt, {}, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def kept_from_ray() -> Iterator[None]:
    """Start Ray inside the block: SIGHUP is kept from its processes, and SIGTERM from Ray.

    A closed terminal sends SIGHUP to all processes that were started from it. The run needs Ray's
    until its state is saved, and ends them then; they inherit that it is blocked. At SIGTERM, a
    handler of Ray's, which ray.init would set, would end the driver at once.
    """
    import ray  # noqa: PLC0415  # `errorcast --help` does without

    handler = signal.getsignal(signal.SIGTERM)
    sets_handler = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda _: None
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        ray._private.utils.set_sigterm_handler = sets_handler
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def hung_up(number: int) -> bool:
    """Return whether a signal says that the terminal was closed; if so, expect nothing of it.

    What is still printed goes nowhere, since writing to a closed terminal fails. The shell may send
    the same signal again.
    """
    if number != signal.SIGHUP:
        return False
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            with contextlib.suppress(OSError):
                if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                    os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return True


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], before: dict[int, Handler], *numbers: int
) -> Iterator[None]:
    """Handle these signals inside the block; note the handlers before in a dictionary.

    Only the main thread can handle signals. An ignored SIGHUP stays ignored (nohup).
    """
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            nohup = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not nohup:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
