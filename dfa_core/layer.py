"""One layer: a module whose output is a feedback point."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from dfa_core.errors import JobError
from dfa_core.feedback import Feedback
from dfa_core.model import Model, describe
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from
from dfa_core.trained import ScalarState, TensorState, TrainedModule


class Layer(TrainedModule):
    """A module, its optimizer and its feedback matrix, all from (job seed, layer index)."""

    def __init__(self, index: int, module: nn.Module, rule: LearningRule) -> None:
        name = f"layer-{index:04d}"
        super().__init__(name, module, rule.optimizer, rule.skip_non_finite)
        self.index = index
        self.label = f"layer {index} ({describe(module)})"
        self.seed = rule.seed
        self.feedback = Feedback(rule.feedback, rule.seed, index, rule.sample_dims)
        self._sample_shape: tuple[int, ...] | None = None
        self._staleness = rule.staleness
        # delayed mode: the weights as step t's forward found them, which also gather its gradients
        self._open: dict[int, dict[str, Tensor]] = {}

    def forward(self, x: Tensor, step: int, microbatch: int) -> Tensor:
        """Return h_i of one microbatch, with its graph; random draws come from their position.

        Raises JobError when the module fails, or when a sample's shape is not what it was before.
        """
        self.note_buffers(step)
        with drawing_from(derive(self.seed, "draw", self.index, step, microbatch)):
            return self._checked(x, self._weights_of(step) if self._staleness else None)

    def _weights_of(self, step: int) -> dict[str, Tensor]:
        """Return the weights that all forwards of a step use; optimizer steps leave them alone."""
        if step not in self._open:
            self._open[step] = {
                name: parameter.detach().clone().requires_grad_()
                for name, parameter in self.parameters.items()
            }
        return self._open[step]

    def apply_gradients(self, step: int) -> None:
        """Take the optimizer step with the gradients of batch `step`, and clear them."""
        for name, weight in self._open.pop(step, {}).items():
            self.parameters[name].grad = weight.grad
        super().apply_gradients(step)

    def state(self) -> tuple[TensorState, ScalarState]:
        """Return copies of weights, optimizer state, and the gradients that are still open."""
        tensors, scalars = super().state()
        for step, weights in self._open.items():
            for name, weight in weights.items():
                if weight.grad is not None:
                    tensors[f"open/{step}/{name}"] = weight.grad.detach().cpu().clone()
        return tensors, scalars

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state made by `state`, bit for bit."""
        super().load_state(tensors, scalars)
        self._open.clear()
        for key, gradient in tensors.items():
            if self._staleness and key.startswith("open/"):
                _, step, name = key.split("/", 2)
                weight = self._weights_of(int(step))[name]
                weight.grad = gradient.clone().to(weight.device)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return h_i in evaluation mode (no dropout, fixed statistics)."""
        self.module.eval()
        try:
            return self._checked(x)
        finally:
            self.module.train()

    def _checked(self, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        try:
            h = self.module(x) if weights is None else functional_call(self.module, weights, (x,))
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
