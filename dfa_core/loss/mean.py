"""A loss, and the weight of its mean."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from dfa_core.errors import JobError, reason

Loss = Callable[[Tensor, Tensor], Tensor]
LossWeight = Callable[[Tensor], Tensor | float]


@dataclass(frozen=True)
class WeightedLoss:
    """A loss, and what its mean over some samples weighs in the mean over more of them.

    mean: maps (head output, target) to the mean over these samples.
    weight: maps the target of these samples to the denominator of that mean, in any unit: the mean
        over a whole is the sum of weight * mean of its parts over the sum of their weights. None
        means the number of samples, as long as nobody looked.
    flaw: what shows that no weight puts the mean together from its parts; empty: nothing does.
    """

    mean: Loss
    weight: LossWeight | None = None
    flaw: str = ""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over these samples."""
        return self.mean(output, target)

    def weigh(self, target: Tensor) -> float:
        """Return the weight of the mean over these samples. Raises JobError if it is none."""
        try:
            weight = float(len(target) if self.weight is None else self.weight(target))
        except JobError:
            raise
        except Exception as error:
            raise JobError(
                f"the loss's weight fails on targets of {tuple(target.shape)}: {reason(error)}"
            ) from error
        if not isfinite(weight) or weight < 0:
            raise JobError(
                f"the loss's weight is {weight:g} for targets of {tuple(target.shape)}; it must be "
                f"a number of 0 or above"
            )
        return weight


def weighted(loss: Loss) -> WeightedLoss:
    """Return a loss with the weight of its mean: the number of samples, if it has no other."""
    return loss if isinstance(loss, WeightedLoss) else WeightedLoss(loss)
