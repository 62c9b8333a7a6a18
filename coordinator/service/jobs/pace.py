"""How fast a job goes by the clock, and how long it still needs."""

from dataclasses import dataclass

_WINDOW_S = 60.0
_APART_S = 1.0  # between two samples, so that a window holds few
_FEWEST = 4  # samples that are kept however old they are: steps may take minutes


@dataclass(frozen=True)
class Pace:
    """The steps that a start of a job has completed, at a few moments of its last minute.

    A clock counts everything that takes time: also evaluations, checkpoints and waiting.

    samples: pairs of seconds of a monotonic clock and completed steps, oldest first.
    """

    samples: tuple[tuple[float, int], ...] = ()

    def after(self, step: int, now: float) -> "Pace":
        """Return the pace when `step` steps are completed at `now`, in seconds.

        A job that returned to an earlier step begins anew.
        """
        if self.samples and step < self.samples[-1][1]:
            return Pace(((now, step),))
        if self.samples and (step == self.samples[-1][1] or now - self.samples[-1][0] < _APART_S):
            return self
        kept = (*self.samples, (now, step))
        while len(kept) > _FEWEST and now - kept[0][0] > _WINDOW_S:
            kept = kept[1:]
        return Pace(kept)

    def step_seconds(self, step: int, now: float) -> float | None:
        """Return the mean seconds from one step to the next; None before that is known.

        step: completed steps at `now`.
        """
        if not self.samples:
            return None
        began, first = self.samples[0]
        if step <= first or now - began < _APART_S:
            return None
        return (now - began) / (step - first)
