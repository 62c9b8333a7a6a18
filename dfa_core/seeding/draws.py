"""From which global generators a piece of code may draw."""

from enum import IntEnum


class Draws(IntEnum):
    """From which global generators a piece of code may draw; more includes less."""

    NOTHING = 0
    TORCH = 1
    ANYTHING = 2  # also from NumPy's and Python's: code that we do not know
