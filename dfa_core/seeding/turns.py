"""A lock that threads get in turn."""

import threading


class Turns:
    """A lock for code that draws; threads that wait for it get it in turn.

    A plain lock would go back to the thread that has just released it: a thread that reads one
    sample after another would keep it for a whole batch.
    """

    def __init__(self) -> None:
        self._door, self._room = threading.Lock(), threading.Lock()
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        if not self.is_mine():
            self._enter()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._leave()

    @property
    def is_nested(self) -> bool:
        """Return whether the thread that has the lock has taken it more than once."""
        return self._depth > 1

    def is_mine(self) -> bool:
        """Return whether this thread has the lock."""
        return self._owner == threading.get_ident()

    def offer(self) -> None:
        """Let a thread that waits have its turn; the caller has the lock before and after."""
        if self._door.locked():
            depth, self._depth = self._depth, 0
            self._leave()
            self._enter()
            self._depth = depth

    def _enter(self) -> None:
        with self._door:  # whoever waits holds it: the thread that leaves cannot come first again
            self._room.acquire()
        self._owner = threading.get_ident()

    def _leave(self) -> None:
        self._owner = 0
        self._room.release()
