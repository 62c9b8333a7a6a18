"""Asynchronous successive halving (ASHA, arXiv 1810.05934): which trials are stopped, and when.

After some epochs (a rung) a trial is compared with the earlier trials of its method that came as
far. It is stopped if it is not in the best 1/reduction of them. These are the decisions of Ray
Tune's ASHA where one trial runs after the other. Here they are a pure function of the scores, so
that they depend neither on how many trials run side by side nor on what was interrupted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Halving:
    """The rungs: after `grace` epochs, then after `reduction` times as many, and so on.

    epochs: of a trial that is not stopped. reduction: above 1.
    """

    grace: int
    reduction: int
    epochs: int

    @property
    def rungs(self) -> list[int]:
        """Return the epochs after which trials are compared, all before the last."""
        found, rung = [], self.grace
        while rung < self.epochs:
            found.append(rung)
            rung *= self.reduction
        return found

    def keeps(self, score: float, earlier: Sequence[float]) -> bool:
        """Return whether a trial continues; more is better. earlier: of the trials before it."""
        if not earlier:
            return True
        return bool(score >= np.percentile(earlier, (1 - 1 / self.reduction) * 100))


@dataclass(frozen=True)
class Course:
    """How a trial went so far: its score after each epoch, more is better; ended: none follows."""

    scores: Sequence[float]
    ended: bool


def stops(trials: Sequence[Course], halving: Halving) -> list[int | None]:
    """Return after how many epochs each trial of a method is stopped; None: not, or not yet known.

    trials: in their order. A trial is compared once all earlier ones have reached the rung, have
    been stopped before, or have ended. Until then it trains on. What it learned beyond the epoch
    that it is stopped after does not count.
    """
    rungs = halving.rungs
    seen: list[list[float]] = [[] for _ in rungs]
    complete = len(rungs)  # rungs at which all earlier trials are known
    found: list[int | None] = []
    for trial in trials:
        stop = None
        for level, rung in enumerate(rungs):
            if len(trial.scores) < rung:
                if not trial.ended:
                    complete = min(complete, level)
                break
            if level >= complete:
                break
            score = trial.scores[rung - 1]
            keeps = halving.keeps(score, seen[level])
            seen[level].append(score)
            if not keeps:
                stop = rung
                break
        found.append(stop)
    return found
