"""Callbacks: a user's own code that a run calls while it trains."""

from collections.abc import Iterable, Mapping

from dfa_core.errors import JobError


class StopTraining(Exception):  # it is no error
    """Raised by a callback to end the run well: its state is saved, and its result is written."""


class Callback:
    """What a run calls in the coordinator's process. Each method does nothing: override some.

    The calls come between steps, when no worker computes: a slow method makes the run slow, and
    nothing else. An exception ends the run after its state was saved; StopTraining ends it well.

    A step that is computed again after a fault is not reported again, for it has the same bits. One
    that is computed again after a roll-back is.
    """

    def on_step(self, step: int, loss: float) -> None:
        """Called for each step, about a second after it at most.

        step: number of steps done. loss: of that step, mean over the batch; it is NaN or infinite
        if the batch was skipped.
        """

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Called after each evaluation. scores: "loss" and the task's metrics."""

    def on_checkpoint(self, step: int, path: str) -> None:
        """Called after each checkpoint. path: its folder, or its URL in an object store."""


def check_callbacks(callbacks: Iterable[object]) -> tuple[Callback, ...]:
    """Return them. Raises JobError for one that is no instance of Callback."""
    found: list[Callback] = []
    for one in callbacks:
        if isinstance(one, type):
            raise JobError(
                f"callbacks: {one.__name__} is a class; give an instance: {one.__name__}()"
            )
        if not isinstance(one, Callback):
            raise JobError(
                f"callbacks: a {type(one).__name__} is no callback; derive its class from "
                f"dfa_tasks.Callback"
            )
        found.append(one)
    return tuple(found)
