"""The head in the worker of the last block, as both ends of that block's links.

The block "sends" its outputs to the head in its own process, and "receives" from it what it learns
from: errors, which the other blocks get by a broadcast, or gradients, which are for it alone.
"""

from collections import deque

from torch import Tensor

from workers.heads.head_copy import HeadCopy


class HostedHead:
    """Takes the outputs of the last block in a segment; gives the block what it learns from."""

    def __init__(self, copy: HeadCopy) -> None:
        self._copy = copy
        self._signals: deque[Tensor] = deque()

    def send(self, output: Tensor) -> None:
        """Take the message of the block's next output. Raises as HeadCopy.learn() does."""
        signal = self._copy.learn(output)
        if signal is not None:
            self._signals.append(signal)

    def keep(self, at_most: int) -> None:
        """Wait until at most this many signals are on their way to the other blocks."""
        self._copy.keep(at_most)

    def finish(self) -> None:
        """End the head's last step."""
        self._copy.finish()

    def take(self) -> Tensor:
        """Return the message of the next signal, for the block itself."""
        return self._signals.popleft()

    def release(self) -> None:
        """Do nothing: no message has to arrive for the next signal."""
