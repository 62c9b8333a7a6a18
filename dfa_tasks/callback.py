"""Callbacks: a user's own code that a run calls while it trains."""

from collections.abc import Iterable, Mapping

from dfa_core.errors import JobError


class StopTraining(Exception):  # it is no error
    """Raise it in a callback to end the run without an error: state and result are saved."""


class Callback:
    """Your own code in a run. Each method does nothing by default: override those that you need.

    The run calls the methods in the coordinator's process, between steps, while no worker computes.
    A slow method makes the run slow and changes nothing else. An exception ends the run after its
    state was saved; StopTraining ends it without an error.

    A step that is computed again after a fault is not reported again: it has the same bits. A step
    that is computed anew after a roll-back is reported again.
    """

    def on_step(self, step: int, loss: float) -> None:
        """Called for each step, at most about a second after it.

        step: number of steps done.
        loss: loss of that step, the mean over the batch; NaN or infinite if the batch was skipped.
        """

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Called after each evaluation.

        step: number of steps done.
        scores: "loss" and the task's metrics.
        """

    def on_checkpoint(self, step: int, path: str) -> None:
        """Called after each checkpoint.

        step: number of steps done.
        path: folder of the checkpoint, or its URL in an object store.
        """


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
