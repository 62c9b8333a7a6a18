"""The head in the worker of the last block, as both ends of that block's links.

The block "sends" its outputs to the head in its own process, and "receives" the errors from it. The
other blocks get each error by a broadcast.
"""

from collections import deque

from torch import Tensor

from workers.heads.head_copy import HeadCopy


class HostedHead:
    """Takes the outputs of the last block in a segment; gives the block its errors."""

    def __init__(self, copy: HeadCopy) -> None:
        self._copy = copy
        self._errors: deque[Tensor] = deque()

    def send(self, output: Tensor) -> None:
        """Take the message of the block's next output. Raises as HeadCopy.learn() does."""
        signal = self._copy.learn(output)
        if signal is not None:
            self._errors.append(signal)

    def keep(self, at_most: int) -> None:
        """Wait until at most this many errors are on their way to the other blocks."""
        self._copy.keep(at_most)

    def finish(self) -> None:
        """End the head's last step."""
        self._copy.finish()

    def take(self) -> Tensor:
        """Return the message of the next error, for the block itself."""
        return self._errors.popleft()

    def release(self) -> None:
        """Do nothing: no message has to arrive for the next error."""
