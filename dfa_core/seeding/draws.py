"""From which global generators a piece of code may draw."""

from enum import IntEnum


class Draws(IntEnum):
    """From which global generators a piece of code may draw; more includes less."""

    NOTHING = 0
    TORCH = 1
    ANYTHING = 2  # also from NumPy's and Python's: code that we do not know

    @property
    def backward(self) -> "Draws":
        """Return what its backward pass may draw from; known code draws nothing there."""
        return self if self is Draws.ANYTHING else Draws.NOTHING
