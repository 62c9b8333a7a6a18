"""Where a run is: what a checkpoint saves in addition to the weights."""

from dataclasses import dataclass
from typing import Any

from coordinator.runs.early_stopping import Best
from coordinator.runs.plateau import Plateau


@dataclass(frozen=True)
class RunState:
    """The state of a run after `step` steps.

    cuts: the steps from which the learning rate was cut.
    best: the best evaluation so far, where the job chooses by one.
    plateau: the least loss so far, where the learning rate depends on it.
    data: the state of training data that are read in order, if they have one: what JSON holds.
    """

    step: int = 0
    cuts: tuple[int, ...] = ()
    best: Best | None = None
    plateau: Plateau | None = None
    data: Any = None
