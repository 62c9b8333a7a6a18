"""Your own code in a run.

errorcast train docs/examples/callbacks.py:make_task
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from errorcast import Callback, StopTraining, Task

from dfa_tasks import make_task as installed


class LossFile(Callback):
    """Writes the loss of every step into a CSV file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_step(self, step: int, loss: float) -> None:
        """Add a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{step},{loss}\n")


class Target(Callback):
    """Ends the run well when the accuracy is high enough."""

    def __init__(self, accuracy: float) -> None:
        self.accuracy = accuracy

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Look at the accuracy."""
        if scores["accuracy"] >= self.accuracy:
            reached = f"the accuracy is {scores['accuracy']:.3f}"
            raise StopTraining(f"{reached} at step {step}")


def make_task(accuracy: float = 0.9) -> Task:
    """Return the task `digits` with two callbacks; accuracy is the target."""
    callbacks = [LossFile(Path("losses.csv").absolute()), Target(accuracy)]
    return replace(installed("digits", {}), callbacks=callbacks)
