"""One layer: a module whose output is a feedback point."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from dfa_core.activations import Activations, described, tensors
from dfa_core.errors import JobError, reason
from dfa_core.feedback.matrix import Feedback
from dfa_core.input_guard import InputGuard
from dfa_core.layer.learned_matrices import LearnedMatrices
from dfa_core.layer.learning_signals import LEARNING, LearningSignals, LearnsBy
from dfa_core.layer.output_check import OutputCheck
from dfa_core.layer.tangents import Tangents
from dfa_core.model import Model, describe
from dfa_core.precision import computing_in, passed_on
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from
from dfa_core.trained import ScalarState, TensorState, TrainedModule


class Layer(TrainedModule):
    """A module, its optimizer and its feedback matrices, all from (job seed, layer index).

    The module returns a tensor h_i, (samples..., features...), or a tuple of tensors; the next
    layer (or the head) is called with all of them. The module's attributes `learns_by` and
    `learns_from` say what each tensor learns by (learning_signals.py).
    """

    def __init__(self, index: int, module: nn.Module, rule: LearningRule) -> None:
        """index: of the layer in the model, from 0.

        Raises JobError if the optimizer does not exist or refuses its options.
        """
        delayed = rule.staleness > 0
        super().__init__(f"layer-{index:04d}", module, rule, key=str(index), delayed=delayed)
        self.index = index
        self.label = f"layer {index} ({describe(module)})"
        self._output_check = OutputCheck(self.label)
        self._inputs, self._evaluation_inputs = InputGuard(self.label), InputGuard(self.label)
        self._signals = LearningSignals(module, index, self.label, rule)
        self._learned = LearnedMatrices(self, self.feedback)
        self._tangents = Tangents(index, self._signals.by_feedback, rule)
        self.check_delay(self.label)

    @property
    def feedback(self) -> list[Feedback]:
        """Return the feedback matrices, one for each entry of `learns_by`."""
        return self._signals.matrices

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Return h_i of one microbatch, with its graph; then its tangents, if the rule sends them.

        Random draws (dropout) depend on seed, layer, step and microbatch alone.

        Raises JobError if the module fails, or if the shape of a sample differs from before.
        """
        self.save_buffers(step)
        with self.drawing(step, microbatch):
            try:
                compute = partial(self.compute, weights=self.weights_of(step))
                if not self.rule.sends_tangents:
                    return compute(x)
                return self._tangents.through(compute, x, step, microbatch)
            except JobError as error:
                raise JobError(f"at step {step}, {error}") from error

    def drawing(self, step: int, microbatch: int) -> AbstractContextManager[None]:
        """Return a context in which the layer draws its random numbers of a microbatch."""
        seed = derive(self.rule.seed, "draw", self.index, step, microbatch)
        return drawing_from(seed, self.draws)

    def evaluate(self, x: Activations) -> Activations:
        """Return h_i in evaluation mode (no dropout, fixed statistics). Raises as forward().

        A module that draws here too draws the same numbers in every call.
        """
        seed = derive(self.rule.seed, "evaluate", self.index)
        with self.evaluating(), drawing_from(seed, self.draws):
            return self._compute(x, None, training=False)

    def compute(self, x: Activations, weights: dict[str, Tensor] | None = None) -> Activations:
        """Return h_i, with the module's own weights or with these. Raises as forward()."""
        return self._compute(x, weights, training=True)

    def _compute(
        self, x: Activations, weights: dict[str, Tensor] | None, training: bool
    ) -> Activations:
        guard = self._inputs if training else self._evaluation_inputs
        with computing_in(self.rule.precision, tensors(x)[0]), guard.given(tensors(x)) as inputs:
            h = self._call(self.training_call() if training else self.module, inputs, weights)
        outputs = self._output_check.check(h, len(inputs[0]), training)
        outputs = passed_on(outputs, self.rule.activations)
        # without a graph, it may be a buffer that the layer uses again in the next microbatch
        if training:
            outputs = tuple(t if t.requires_grad else t.clone() for t in outputs)
        return outputs if isinstance(h, tuple) else outputs[0]

    def _call(
        self,
        run: Callable[..., Activations],
        inputs: Sequence[Tensor],
        weights: dict[str, Tensor] | None,
    ) -> object:
        try:
            if weights is None:
                return run(*inputs)
            return functional_call(self.module, weights, tuple(inputs))
        except Exception as error:
            came = described(inputs)
            raise JobError(f"{self.label} fails on an input of {came}: {reason(error)}") from error

    def learns(self, by: Collection[LearnsBy]) -> bool:
        """Return whether any output learns by one of these."""
        return self._signals.learns(by)

    def learning_signals(
        self,
        error: Tensor,
        h: Activations,
        by: Collection[LearnsBy] = LEARNING,
        step: int = 0,
        microbatch: int = 0,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs that learn and the gradient of each, for torch.autograd.backward.

        error: the global error e of a microbatch, (samples..., error features), or what the rule
            broadcasts in its place.
        h: what forward() returned for it at this step.
        by: outputs that learn by anything else are skipped.

        Raises JobError if the shapes do not fit.
        """
        direction = partial(self._tangents.direction, step=step, microbatch=microbatch)
        signals = self._signals.of(error, h, by, direction)
        self._learned.train_new()
        return signals

    def weights(self) -> list[Tensor]:
        """Return the trained weights of the module, without learned feedback matrices."""
        return self._learned.without(self.parameters)

    def state(self) -> tuple[TensorState, ScalarState]:
        """Return copies: the module's, and learned feedback matrices (`feedback/...`)."""
        tensors, scalars = super().state()
        return {**tensors, **self._learned.state()}, scalars

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state made by `state`, bit for bit.

        Raises JobError if the state belongs to a module of another shape.
        """
        self._learned.load_state(tensors)
        super().load_state(tensors, scalars)


def build_layers(model: Model, first: int, last: int, rule: LearningRule) -> list[Layer]:
    """Build layers first..last-1 of the model, in this process; no other layer is built."""
    return [Layer(i, model.build_layer(i, rule.seed), rule) for i in range(first, last)]
