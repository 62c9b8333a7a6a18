"""When the learning rate falls because the loss does not (`optimizer.schedule: plateau`)."""

from dataclasses import dataclass
from math import isnan


@dataclass(frozen=True)
class Plateau:
    """The least loss of all evaluations, and its epoch, or that of the newest cut after it."""

    loss: float
    epoch: int


def next_plateau(
    before: Plateau | None, epoch: int, loss: float, patience: int
) -> tuple[Plateau, bool]:
    """Return the plateau after an epoch's evaluation, and whether to cut the learning rate.

    It depends on the evaluations alone, so an interrupted run cuts at the same epochs. Repeating
    the newest epoch changes nothing.

    patience: epochs in a row without a lower loss before a cut.
    """
    if before is None or loss < before.loss or isnan(before.loss):
        return Plateau(loss, epoch), False
    if epoch - before.epoch >= patience:
        return Plateau(before.loss, epoch), True
    return before, False
