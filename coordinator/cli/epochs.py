"""Chooses which evaluations of a run keep a line on the terminal, so that long runs stay readable.

A run of up to 30 epochs keeps all of them. A longer one keeps its first 10, then every n-th epoch:
n is the smallest of 2, 5, 10, 20, 50, 100 ... with which at most 20 lines follow. The last
evaluation and the one with the lowest loss are shown at the end if they have no line yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from math import inf

SHORT, FIRST, _MOST = 30, 10, 20


@dataclass(frozen=True)
class Scored:
    """An evaluation: after which epoch, on which data, and its scores."""

    epoch: int
    epochs: int
    data: str
    scores: Mapping[str, float]

    @property
    def line(self) -> str:
        """Return one line for people."""
        scores = "  ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return f"epoch {self.epoch}/{self.epochs}  {self.data} {scores}"


def interval(epochs: int) -> int:
    """Return every how many epochs a run of this length keeps a line, after its first ones."""
    if epochs <= SHORT:
        return 1
    step, factors = 1, cycle((2, 2.5, 2))  # 1, 2, 5, 10, 20, 50 ...
    while epochs > _MOST * step:
        step = int(step * next(factors))
    return step


@dataclass
class EpochLines:
    """Knows the evaluations of one run so far, and which of them have a line."""

    _seen: int = 0
    _newest: Scored | None = None
    _lowest: Scored | None = None
    _data: str = ""
    _kept: set[tuple[int, str]] = field(default_factory=set)

    def keeps(self, one: Scored) -> bool:
        """Note an evaluation; return whether its line stays."""
        self._seen += 1
        self._newest = one
        other_data, self._data = self._data != one.data, one.data  # tested after its validation
        lowest = self._lowest
        if lowest is None or (one.data == lowest.data and _loss(one) < _loss(lowest)):
            self._lowest = one
        kept = other_data or self._seen <= FIRST or one.epoch % interval(one.epochs) == 0
        if kept:
            self._kept.add((one.epoch, one.data))
        return kept

    @property
    def folds(self) -> bool:
        """Return whether the run is so long that not all its evaluations have a line."""
        return self._newest is not None and self._newest.epochs > SHORT

    def at_end(self) -> list[str]:
        """Return the lines that a run still needs when it is over or has stopped."""
        lines = []
        for start, one in (("", self._newest), ("lowest loss: ", self._lowest)):
            if one is not None and (one.epoch, one.data) not in self._kept:
                self._kept.add((one.epoch, one.data))
                lines.append(f"{start}{one.line}")
        return lines


def _loss(one: Scored) -> float:
    return one.scores.get("loss", inf)
