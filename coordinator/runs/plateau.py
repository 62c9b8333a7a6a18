"""When the learning rate falls because the loss does not (`optimizer.schedule: plateau`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plateau:
    """The least loss of all evaluations, and the epoch of it, or of the newest cut behind it."""

    loss: float
    epoch: int


def next_plateau(
    before: Plateau | None, epoch: int, loss: float, patience: int
) -> tuple[Plateau, bool]:
    """Return where a run stands after an epoch's evaluation, and whether its rate is to be cut.

    patience: epochs in a row without a lower loss, after which it is. It follows from the
    evaluations alone: an interrupted run cuts where one does that was not.
    """
    if before is None or loss < before.loss:
        return Plateau(loss, epoch), False
    if epoch - before.epoch >= patience:
        return Plateau(before.loss, epoch), True
    return before, False
