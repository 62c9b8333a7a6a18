"""Decides what a run does after a fault: continue at once, wait a little, or give up.

A state machine of its own, apart from the training loop: RUNNING, RECOVERING (a fault was seen, and
no new step was done since) and FAILED. Only a step that was never done before makes it RUNNING
again: a run that dies at the same step again and again ends.
"""

from collections.abc import Callable
from enum import Enum
from time import monotonic

from coordinator.training.events import Recovered
from dfa_core import TrainingFailed

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


class State(Enum):
    """The state of a run."""

    RUNNING = "running"
    RECOVERING = "recovering"
    FAILED = "failed"


class Recovery:
    """Counts faults and steps; says how long to wait before the next try."""

    def __init__(self, limit: int, clock: Callable[[], float] = monotonic) -> None:
        """limit: tries in a row, with no new step done, before the run fails; 0 tries none."""
        self._limit, self._clock = limit, clock
        self.state = State.RUNNING
        self.faults = 0
        self.seconds_lost = 0.0
        self.steps_repeated = 0
        self.furthest = 0  # steps that were done at any time
        self._at = self._from = 0  # the newest step done, and where the run last continued
        self._tries = 0
        self._since: float | None = None
        self._non_finite_at, self._non_finite_times = 0, 0

    def begins(self, step: int) -> None:
        """Note the step that the run begins at, or that it was rolled back to.

        Steps after it count as new ones: with a lower learning rate they give other bits.
        """
        self.furthest = self._at = self._from = step

    def fault(self, cause: Exception) -> float:
        """Note a fault; return the seconds to wait before the next try.

        The first try comes at once: most faults are one killed process.

        Raises TrainingFailed, with the cause, when too many tries gave no new step.
        """
        if self._since is None:
            self._since = self._clock()
        self._tries = self._tries + 1 if self.state is State.RECOVERING else 1
        self.state = State.RECOVERING
        self.faults += 1
        if self._tries > self._limit:
            self._give_up(cause, "recoveries")
        return (
            0.0
            if self._tries == 1
            else min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (self._tries - 2))
        )

    def non_finite(self, step: int, cause: Exception) -> None:
        """Note that the numbers of a step are not finite.

        Raises TrainingFailed when that happened too often and no later step was reached.
        """
        if step > self._non_finite_at:
            self._non_finite_at, self._non_finite_times = step, 0
        self._non_finite_times += 1
        if self._non_finite_times > self._limit:
            self._give_up(cause, "roll-backs")

    def goes_on_from(self, step: int) -> int:
        """Note the step that the run went back to; return how many steps it repeats."""
        again = max(0, self._at - step)
        self._at = self._from = step
        self.steps_repeated += again
        return again

    def done(self, step: int) -> Recovered | None:
        """Note that `step` steps are done; return the recovery that this ended, if any.

        It lasts from the fault to the next step done, which may be a repeated one.
        """
        self._at = step
        recovered = None
        if self._since is not None:
            seconds = self._clock() - self._since
            recovered = Recovered(seconds, self._from, max(0, self.furthest - self._from))
            self.seconds_lost += seconds
            self._since = None
        if step > self.furthest:
            self.furthest = step
            self.state = State.RUNNING
        return recovered

    def _give_up(self, cause: Exception, tries: str) -> None:
        self.state = State.FAILED
        after = f"; gave up after {self._limit} {tries} in a row" if self._limit else ""
        raise TrainingFailed(f"{cause}{after}") from cause
