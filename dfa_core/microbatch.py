"""Cuts a batch into the equal microbatches that flow through the blocks one after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from torch import Tensor

from dfa_core.errors import JobError
from dfa_core.loss import WeightedLoss


@dataclass(frozen=True)
class Share:
    """How much a microbatch counts in the mean over its batch: its weight, and that of all.

    The heaviest microbatch of a batch weighs 1. So microbatches that weigh the same have exactly
    one of M parts each.
    """

    weight: float
    total: float

    @property
    def parts(self) -> float:
        """Return of how many such microbatches the batch would consist."""
        return self.total / self.weight if self.weight else inf


WHOLE, NOTHING = Share(1.0, 1.0), Share(0.0, 1.0)


@dataclass(frozen=True)
class Microbatch:
    """Some samples of a batch: inputs and targets, (samples, ...), and their share of its mean."""

    x: Tensor
    target: Tensor
    share: Share


def cut(
    x: Tensor, target: Tensor, microbatches: int, loss: WeightedLoss | None = None
) -> list[Microbatch]:
    """Cut a batch into microbatches, each with its share of the loss's mean over the batch.

    loss: by default, all shares are equal.

    Raises JobError as split() and WeightedLoss.weigh() do.
    """
    xs, targets = split(x, microbatches), split(target, microbatches)
    return [Microbatch(*one) for one in zip(xs, targets, shares(targets, loss), strict=True)]


def shares(targets: Sequence[Tensor], loss: WeightedLoss | None) -> list[Share]:
    """Return the shares of microbatches with these targets; equal ones for no loss.

    If all weigh nothing, their shares are equal too: the loss says what its mean over nothing is.
    """
    weights = [1.0] * len(targets)
    if loss is not None and len(targets) > 1:
        weights = [loss.weigh(target) for target in targets]
    most = max(weights)
    relative = [weight / most if most else 1.0 for weight in weights]
    return [Share(weight, sum(relative)) for weight in relative]


def mean_loss(loss: WeightedLoss, output: Tensor, target: Tensor, share: Share) -> Tensor:
    """Return the mean over a microbatch, with its graph; 0 if it weighs nothing."""
    return loss(output, target) if share.weight else 0.0 * output.sum()


def batch_mean(losses: Sequence[tuple[float, Share]]) -> float:
    """Return the mean over a batch, from (mean, share) of its microbatches."""
    return sum(loss * share.weight for loss, share in losses) / losses[0][1].total


def split(batch: Tensor, microbatches: int) -> list[Tensor]:
    """Cut a batch, (samples, ...), into M microbatches, (samples / M, ...), each a copy.

    They are copies because a matrix product may round differently at another memory alignment,
    and a microbatch that travelled between processes arrives in a fresh buffer.

    Raises JobError if M does not divide the batch.
    """
    if microbatches < 1 or batch.shape[0] % microbatches:
        raise JobError(
            f"microbatches: {microbatches} does not divide the batch of {batch.shape[0]} samples"
        )
    return [microbatch.clone() for microbatch in batch.chunk(microbatches)]
