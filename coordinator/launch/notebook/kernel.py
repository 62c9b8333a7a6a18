"""Finds the IPython kernel of a notebook, and lets a cell that awaits a run interrupt it."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A cell was interrupted before its run could save its state."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: one line in place of a stack trace."""
        return [f"KeyboardInterrupt: {self}"]


def running_kernel() -> Any | None:
    """Return the IPython kernel that this process is, None in a script or a terminal.

    It imports nothing: where a kernel runs, IPython is imported already.
    """
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(get_shell(), "kernel", None) if get_shell is not None else None


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: what publishes its outputs, and the header that leads them to it."""

    publisher: Any
    header: Mapping[str, Any]

    @contextmanager
    def takes_outputs(self) -> Iterator[None]:
        """Lead what this thread shows to the cell, also when another one runs by then."""
        if not hasattr(self.publisher, "set_thread_parent"):  # ipykernel before 7
            yield
            return
        token = self.publisher.set_thread_parent(self.header)
        try:
            yield
        finally:
            self.publisher.reset_thread_parent(token)


def calling_cell() -> Cell | None:
    """Return the cell that runs now, None outside of a notebook."""
    kernel = running_kernel()
    if kernel is None:
        return None
    publisher = kernel.shell.display_pub
    return Cell(publisher, getattr(publisher, "parent_header", {}))


def import_ray_quietly() -> None:
    """Keep what Ray's import prints in a notebook out of the cell: widgets that nobody uses."""
    if running_kernel() is None or "ray" in sys.modules:
        return
    logger = logging.getLogger("ray.widgets.util")
    before = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import ray  # noqa: F401, PLC0415
    logger.setLevel(before)


@contextmanager
def interrupts_of_awaiting_cell() -> Iterator[list[int]]:
    """Note the first interrupt of a cell that awaits this thread; the second acts as before.

    `await asyncio.to_thread(train, ...)` trains in another thread, which receives no signals. The
    kernel's main thread, whose event loop runs meanwhile, notes them for it. Where no cell waits,
    and outside of kernels, nothing is noted.
    """
    noted: list[int] = []
    kernel = running_kernel()
    if kernel is None or threading.current_thread() is threading.main_thread():
        yield noted
        return
    note = _Note(noted)
    kernel.io_loop.add_callback(note.begin)
    try:
        yield noted
    finally:
        kernel.io_loop.add_callback(note.end)


class _Note:
    """A handler of SIGINT; all but __init__ runs in the main thread."""

    def __init__(self, noted: list[int]) -> None:
        self._noted = noted
        self._before: Callable[[int, FrameType | None], Any] | None = None

    def begin(self) -> None:
        """Take the place of the kernel's handler, which it has only while a cell awaits."""
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and handler is not signal.default_int_handler:
            self._before = handler
            signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._noted.append(number)
        signal.signal(signal.SIGINT, self._before)
        if isinstance(self._before, _Note):  # the cell awaits several runs
            self._before(number, frame)

    def end(self) -> None:
        """Return the place, unless the kernel took it back when the cell ended."""
        ours = signal.getsignal(signal.SIGINT) is self
        if ours:
            signal.signal(signal.SIGINT, self._before)
