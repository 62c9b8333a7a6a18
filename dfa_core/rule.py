"""The learning rule: settings that are the same for every layer and every process."""

from dataclasses import dataclass, field, replace
from typing import Literal

from dfa_core.feedback.matrix import FeedbackSpec
from dfa_core.optimizer import OptimizerSpec
from dfa_core.precision import Precision

Method = Literal["dfa", "bp", "shallow"]
ErrorAt = Literal["output", "input"]


@dataclass(frozen=True)
class LearningRule:
    """How a model learns: the settings that its layers and its head share.

    seed: seed of the job. Weights, feedback matrices and dropout all come from it.
    method: `dfa`; `bp`, which is backpropagation; or `shallow`, which only trains the head.
    microbatches: number M of equal microbatches that a batch is cut into. Gradients are those of
        the mean over the whole batch.
    optimizer: optimizer of each layer and of the head.
    feedback: how the global error reaches the layers.
    error_at: whether the global error is dLoss/d(head output) or dLoss/d(head input).
    sample_dims: number of leading dimensions of the error that count samples (2 if tokens are
        samples).
    staleness: number of steps after which the layers' optimizers use a gradient. 0 is exact
        synchronous SGD, more is delayed mode (schedule.py). The head's optimizer does not wait,
        except in `bp`, where gradients of different ages would not belong together (PipeDream-2BW,
        arXiv 2006.09503).
    skip_non_finite: if true, a batch whose loss or error is NaN or infinite changes no weights,
        and a layer whose own gradient is not finite skips the batch. If false, such a loss raises
        NonFiniteLoss.
    precision: number format in which layers and head compute (precision.py).
    activations: number format of the outputs that layers pass on (precision.py).
    compiled: whether torch.compile compiles layers and head (compiling.py). Compiled code may round
        differently.
    ema: decay of the moving averages of weights that evaluations use
        (trained/weight_average.py). 0: evaluations use the weights.
    """

    seed: int = 0
    method: Method = "dfa"
    microbatches: int = 1
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    feedback: FeedbackSpec = field(default_factory=FeedbackSpec)
    error_at: ErrorAt = "output"
    sample_dims: int = 1
    staleness: int = 0
    skip_non_finite: bool = False
    precision: Precision = "fp32"
    activations: Precision = "fp32"
    compiled: bool = False
    ema: float = 0.0

    @property
    def head_staleness(self) -> int:
        """Return how many steps later the head's optimizer uses a gradient."""
        return self.staleness if self.method == "bp" else 0

    @property
    def passes_back(self) -> bool:
        """Return whether blocks send something to the block before them."""
        return self.method == "bp" or self.feedback.hops > 0

    @property
    def sends_tangents(self) -> bool:
        """Return whether derivatives travel forward with the activations (layer/tangents.py)."""
        return self.method == "dfa" and self.feedback.rule.broadcast == "derivative"

    @property
    def narrow(self) -> bool:
        """Return whether activations travel in half the bytes."""
        return self.activations == "bf16"

    def cut_at(self, cuts: tuple[int, ...]) -> "LearningRule":
        """Return the same rule with the learning rate cut at these steps."""
        return replace(self, optimizer=replace(self.optimizer, cuts=cuts))
