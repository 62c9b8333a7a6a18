"""One layer: a module whose output is a feedback point."""

from torch import Tensor, nn

from dfa_core.errors import JobError
from dfa_core.feedback import Feedback
from dfa_core.model import Model, describe
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from
from dfa_core.trained import TrainedModule


class Layer(TrainedModule):
    """A module, its optimizer and its feedback matrix, all from (job seed, layer index)."""

    def __init__(self, index: int, module: nn.Module, rule: LearningRule) -> None:
        super().__init__(f"layer-{index:04d}", module, rule.optimizer)
        self.index = index
        self.label = f"layer {index} ({describe(module)})"
        self.seed = rule.seed
        self.feedback = Feedback(rule.feedback, rule.seed, index, rule.sample_dims)
        self._sample_shape: tuple[int, ...] | None = None

    def forward(self, x: Tensor, step: int, microbatch: int) -> Tensor:
        """Return h_i of one microbatch, with its graph; random draws come from their position.

        Raises JobError when the module fails, or when a sample's shape is not what it was before.
        """
        with drawing_from(derive(self.seed, "draw", self.index, step, microbatch)):
            return self._checked(x)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return h_i in evaluation mode (no dropout, fixed statistics)."""
        self.module.eval()
        try:
            return self._checked(x)
        finally:
            self.module.train()

    def _checked(self, x: Tensor) -> Tensor:
        try:
            h = self.module(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            what = " ".join(str(error).split())
            raise JobError(f"{self.label} fails on an input of {tuple(x.shape)}: {what}") from error
        if not isinstance(h, Tensor) or h.dim() < 1 or h.shape[0] != x.shape[0]:
            got = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise JobError(
                f"{self.label} returned {got} for {x.shape[0]} samples; a layer returns one tensor "
                f"whose first dimension counts the samples"
            )
        if self._sample_shape is None:
            self._sample_shape = tuple(h.shape[1:])
        elif tuple(h.shape[1:]) != self._sample_shape:
            raise JobError(
                f"{self.label} returned samples of {tuple(h.shape[1:])}, but of "
                f"{self._sample_shape} before; a layer's output must keep its shape"
            )
        return h


def build_layers(model: Model, first: int, last: int, rule: LearningRule) -> list[Layer]:
    """Build layers first..last-1 of the model where they are called for, and no others."""
    return [Layer(i, model.build_layer(i, rule.seed), rule) for i in range(first, last)]
