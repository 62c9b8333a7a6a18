"""Turns the global error into gradients of a layer's outputs."""

from collections.abc import Callable, Collection
from math import prod
from typing import Literal

from torch import Tensor, nn

from dfa_core.activations import Activations, tensors
from dfa_core.errors import JobError
from dfa_core.feedback.matrix import Feedback
from dfa_core.rule import LearningRule

LearnsBy = Literal["feedback", "error", "identity", "nothing"]
LEARNING: tuple[LearnsBy, ...] = ("feedback", "error", "identity")
Direction = Callable[[int, Tensor], Tensor]


class LearningSignals:
    """What each output of one layer learns by, and its feedback matrices.

    A module says this in optional attributes. `learns_by` has an entry for each tensor that it
    returns:
        "feedback": the gradient is e·B_i (Nøkland 2016, eq. 7).
        "error": the gradient is e itself. This is exact for a tensor that the head adds to its
            output. If e is taken at the head's input, it is exact for a tensor that is added to
            the last features of that input. `shallow` trains such a tensor as a part of the head.
        "identity": the gradient is e itself too, but the tensor is no part of the head: a residual
            stream that the last features of the head's input end (near: later layers add to it),
            or the head's input (exact). `shallow` does not train it.
        "nothing": no gradient.
    Without the attribute the first tensor learns by feedback and the others by nothing.

    `learns_from` is (first row, number of rows): the rows of the error, (samples, rows, features),
    that belong to this layer if its output has fewer rows than the error (some of a ray's points).

    `feedback_reads` is the number of the error's first features that "feedback" projects, where the
    last ones are for outputs that learn by "error" or "identity". By default it projects all.
    """

    def __init__(self, module: nn.Module, index: int, label: str, rule: LearningRule) -> None:
        """index: of the layer in the model, from 0; label: how messages name the layer."""
        self._label, self._rule = label, rule
        self._rows: tuple[int, int] | None = getattr(module, "learns_from", None)
        self._reads: int | None = getattr(module, "feedback_reads", None)
        self._learns_by: tuple[LearnsBy, ...] = getattr(module, "learns_by", ("feedback",))
        self.matrices = [
            Feedback(rule.feedback, rule.seed, index, rule.sample_dims, output)
            for output in range(len(self._learns_by))
        ]

    @property
    def by_feedback(self) -> list[int]:
        """Return which outputs learn by feedback."""
        return [n for n, learns_by in enumerate(self._learns_by) if learns_by == "feedback"]

    def learns(self, by: Collection[LearnsBy]) -> bool:
        """Return whether any output learns by one of these."""
        return any(learns_by in by for learns_by in self._learns_by)

    def of(
        self, signal: Tensor, h: Activations, by: Collection[LearnsBy], direction: Direction
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs that learn and the gradient of each, for torch.autograd.backward.

        signal: what was broadcast: the global error e, (samples..., error features), or what the
            rule has in its place (signals.py).
        h: the layer's output with its graph, each tensor (samples..., features...).
        by: outputs that learn by anything else are skipped.
        direction: returns u_i of an output, given its number and the output (tangents.py).

        A feedback matrix that changes gets its own gradient added here.

        Raises JobError if the shapes of error and output do not fit, or if the rule does not
        broadcast the error that an output learns by.
        """
        error, derivative = signal.unbind(-1) if self._rule.sends_tangents else (signal, None)
        outputs, gradients = [], []
        for output, learns_by, feedback in zip(
            tensors(h), self._learns_by, self.matrices, strict=False
        ):
            if not output.requires_grad or learns_by not in by:  # or nothing there has weights
                continue
            e = self._rows_of(error, output)
            outputs.append(output)
            if learns_by != "feedback":
                gradients.append(self._error_itself(e, output, feedback))
                continue
            e = e[..., : self._reads]
            if feedback.spec.rule.matrix == "readout":
                e = feedback.own_error(e, output)
            gradients.append(feedback.project(e, output))
            if derivative is not None:
                d = self._rows_of(derivative, output)[..., : self._reads]
                samples = prod(d.shape[: feedback.sample_dims]) * self._rule.microbatches
                u = direction(feedback.output, output)
                feedback.add_gradient(d / samples, u)
            elif feedback.changes:
                feedback.add_gradient(e, output)
        return outputs, gradients

    def _rows_of(self, error: Tensor, output: Tensor) -> Tensor:
        """Return the rows of the error that belong to this output."""
        if self._rows is None or error.shape[1] == output.shape[1]:
            return error
        first, rows = self._rows
        return error[:, first : first + rows]

    def _error_itself(self, error: Tensor, output: Tensor, feedback: Feedback) -> Tensor:
        """Return the last features of the error, as many as the output has."""
        if not feedback.spec.rule.sends_error:
            raise JobError(
                f"{self._label}: an output learns by the error itself, which "
                f"feedback.kind={feedback.spec.kind} does not send; use random"
            )
        width = output.shape[-1]
        if error.shape[:-1] != output.shape[:-1] or error.shape[-1] < width:
            raise JobError(
                f"{self._label}: an output that learns by the error must have its shape "
                f"{tuple(error.shape)}, or fewer features, not {tuple(output.shape)}"
            )
        return error[..., error.shape[-1] - width :].contiguous().to(output.dtype)
