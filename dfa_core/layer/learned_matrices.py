"""Feedback matrices that change: the layer's optimizer trains them, or they are averages."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from dfa_core.feedback.matrix import Feedback
from dfa_core.trained import TrainedModule

AVERAGED = 0.01  # the weight of the newest estimate in an average
_PREFIX = "feedback/"  # in `parameters` and in a state, before the number of the output


class LearnedMatrices:
    """Makes feedback matrices that change parameters of a trained module (Webster 2021).

    The optimizer trains them, or they become running averages of their gradients
    (FDFA: Bacho and Chu 2022). A matrix exists from its first error on, and is a parameter named
    `feedback/{output}` from then on. If the module trains nothing, it has no
    optimizer, and its matrices stay as drawn.
    """

    def __init__(self, owner: TrainedModule, matrices: Sequence[Feedback]) -> None:
        self._owner, self._matrices = owner, matrices

    def train_new(self) -> None:
        """Give the optimizer the matrices that exist since the last call."""
        for feedback in self._matrices:
            name = f"{_PREFIX}{feedback.output}"
            if feedback.changes and feedback.b is not None:
                self._owner.train_also(name, feedback.b, _averaged(feedback))

    def without(self, parameters: Mapping[str, Tensor]) -> list[Tensor]:
        """Return these parameters without the feedback matrices."""
        return [p for name, p in parameters.items() if not name.startswith(_PREFIX)]

    def state(self) -> dict[str, Tensor]:
        """Return CPU copies of the matrices, as `feedback/{output}`."""
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in self._owner.parameters.items()
            if name.startswith(_PREFIX)
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the matrices of a state; one that it lacks is drawn again at its next error."""
        for feedback in self._matrices:
            name = f"{_PREFIX}{feedback.output}"
            feedback.b = None
            self._owner.drop_parameter(name)
            if name in tensors:
                like = next(iter(self._owner.module.parameters()))
                feedback.b = tensors[name].clone().to(like.device)
                self._owner.train_also(name, feedback.b, _averaged(feedback))


def _averaged(feedback: Feedback) -> float | None:
    """Return the weight of the newest estimate in a matrix that is an average; None for others."""
    return AVERAGED if feedback.spec.rule.matrix == "averaged" else None
