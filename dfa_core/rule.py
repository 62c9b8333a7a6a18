"""The numbers that fix how a model learns, the same for every layer and every process."""

from dataclasses import dataclass, field, replace
from typing import Literal

from dfa_core.feedback.matrix import FeedbackSpec
from dfa_core.optimizer import OptimizerSpec
from dfa_core.precision import Precision

Method = Literal["dfa", "bp", "shallow"]
ErrorAt = Literal["output", "input"]


@dataclass(frozen=True)
class LearningRule:
    """How a model learns.

    seed: of the job; weights, feedback and dropout all come from it.
    microbatches: M, the equal parts a batch is cut into; gradients are of the mean over the batch.
    error_at: the global error is dLoss/d(head output) or dLoss/d(head input).
    staleness: s, how many steps later the layers' optimizers take a gradient (the head's at once);
        0 is exact synchronous SGD, more is delayed mode (schedule.py).
    sample_dims: leading dimensions of the error that count samples (2 where tokens are samples).
    skip_non_finite: a batch whose loss or error is NaN or infinite changes no weights, and a layer
        whose own gradient is so leaves that batch out; else such a loss raises NonFiniteLoss.
    precision: what layers and head compute in (precision.py).
    activations: what layers pass on to one another (precision.py).
    """

    seed: int = 0
    microbatches: int = 1
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    feedback: FeedbackSpec = field(default_factory=FeedbackSpec)
    error_at: ErrorAt = "output"
    sample_dims: int = 1
    staleness: int = 0
    skip_non_finite: bool = False
    precision: Precision = "fp32"
    activations: Precision = "fp32"

    @property
    def narrow(self) -> bool:
        """Return whether what layers pass on travels in half the bytes."""
        return self.activations == "bf16"

    def cut_at(self, cuts: tuple[int, ...]) -> "LearningRule":
        """Return the same rule with the learning rate cut at these steps."""
        return replace(self, optimizer=replace(self.optimizer, cuts=cuts))
