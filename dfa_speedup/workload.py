"""What all sides of a comparison share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dfa_core import LearningRule, Model, ModelProfile
from dfa_core.loss import WeightedLoss
from dfa_core.microbatch import Microbatch


class Batches(Protocol):
    """Batches of consecutive steps, which a thread prepares in advance."""

    def microbatches(
        self, first: int, last: int, loss: WeightedLoss | None = None
    ) -> Iterator[Microbatch]:
        """Yield every microbatch of steps first..last-1; loss: gives their shares."""

    def close(self) -> None:
        """Stop making batches."""


@dataclass(frozen=True)
class Workload:
    """The same model, initial weights, data and optimizer for all sides.

    loss: with the weight of its mean.
    rule: each configuration replaces its `microbatches`.
    batches: opens the data, given the number of microbatches that each batch is cut into.
    profile: the model, measured layer by layer.
    uncut: the batch must stay whole, such as a graph.
    """

    model: Model
    loss: WeightedLoss
    rule: LearningRule
    batches: Callable[[int], Batches]
    batch_size: int
    profile: ModelProfile
    uncut: bool = False

    @property
    def profile_of_backpropagation(self) -> ModelProfile:
        """Return what travels between stages that pass gradients back."""
        return self.profile.without_tangents(self.rule)

    @property
    def costs(self) -> list[float]:
        """Return the seconds per microbatch of each layer, forward and update."""
        return [layer.seconds for layer in self.profile.layers]

    @property
    def error_bytes(self) -> int:
        """Return the bytes of the message for one sample's error."""
        return self.rule.feedback.sent_as.message(self.profile.error).bytes


@dataclass(frozen=True)
class Configuration:
    """A side of the comparison, by its name in peers.py, at one number of microbatches.

    virtual_stages: how many stages each worker of a pipeline hosts.
    """

    schedule: str
    microbatches: int
    virtual_stages: int = 1

    @property
    def label(self) -> str:
        """Return the name that tables show: of a worker with several stages, with their number."""
        stages = f" x{self.virtual_stages}" if self.virtual_stages > 1 else ""
        return f"{self.schedule}{stages}"
