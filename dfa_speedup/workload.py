"""What all sides of a comparison share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dfa_core import LearningRule, Model, ModelProfile
from dfa_core.head import Loss


class Batches(Protocol):
    """Batches of any run of steps, made ahead by a thread."""

    def microbatches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) of every microbatch of steps first..last-1."""

    def close(self) -> None:
        """Stop making batches."""


@dataclass(frozen=True)
class Workload:
    """The same model, initial weights, data and optimizer for all.

    rule: its `microbatches` is each configuration's own.
    batches: opens the data, each batch cut into so many microbatches.
    profile: the model measured layer by layer.
    """

    model: Model
    loss: Loss
    rule: LearningRule
    batches: Callable[[int], Batches]
    batch_size: int
    profile: ModelProfile

    @property
    def costs(self) -> list[float]:
        """Return seconds a microbatch of each layer, forward and update."""
        return [layer.seconds for layer in self.profile.layers]

    @property
    def error_bytes(self) -> int:
        """Return the bytes of the message for one sample's error."""
        return self.rule.feedback.sent_as.message(self.profile.error).bytes


@dataclass(frozen=True)
class Configuration:
    """A side of the comparison, by its name in peers.py, at one number of microbatches."""

    schedule: str
    microbatches: int
