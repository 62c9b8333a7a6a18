"""One layer: a module whose output is a feedback point."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfa_core.activations import Activations, tensors
from dfa_core.errors import JobError
from dfa_core.feedback.matrix import Feedback
from dfa_core.model import Model, describe
from dfa_core.precision import computing_in, of_one_type, passed_on
from dfa_core.rule import LearningRule
from dfa_core.seeding import derive, drawing_from
from dfa_core.trained import ScalarState, TensorState, TrainedModule

LearnsBy = Literal["feedback", "error", "nothing"]
_FEEDBACK = "feedback/"  # before the number of the output that a learned matrix teaches


class Layer(TrainedModule):
    """A module, its optimizer and its feedback matrices, all from (job seed, layer index).

    The module returns a tensor, h_i, or a tuple of tensors, which the next layer (or the head) is
    called with. Its attribute `learns_by` says what each of them learns by: "feedback", from e·B_i;
    "error", from e itself, which is exact for what is added to the head's output (where e is taken
    at the head's input, for what its last features are and is added from there); or "nothing".
    Without it the first learns by feedback, and the others go along.

    Where a part of a sample is a row of the error (a point on a ray), the attribute `learns_from`
    says which rows are this layer's, (first, number); an output with all rows learns from all.
    """

    def __init__(self, index: int, module: nn.Module, rule: LearningRule) -> None:
        name = f"layer-{index:04d}"
        super().__init__(name, module, rule.optimizer.of(str(index)), rule.skip_non_finite)
        self.index = index
        self.label = f"layer {index} ({describe(module)})"
        self.seed = rule.seed
        self._learns_from: tuple[int, int] | None = getattr(module, "learns_from", None)
        self._learns_by: tuple[LearnsBy, ...] = getattr(module, "learns_by", ("feedback",))
        self.feedback = [
            Feedback(rule.feedback, rule.seed, index, rule.sample_dims, output)
            for output in range(len(self._learns_by))
        ]
        self._shapes: tuple[torch.Size, ...] = ()  # of a sample
        self._staleness = rule.staleness
        self._precision, self._activations = rule.precision, rule.activations
        # delayed mode: the weights as step t's forward found them, which also gather its gradients
        self._open: dict[int, dict[str, Tensor]] = {}

    def forward(self, x: Activations, step: int, microbatch: int) -> Activations:
        """Return h_i of one microbatch, with its graph; random draws come from their position.

        Raises JobError when the module fails, or when a sample's shape is not what it was before.
        """
        self.note_buffers(step)
        with self.drawing(step, microbatch):
            return self.compute(x, self._weights_of(step) if self._staleness else None)

    def drawing(self, step: int, microbatch: int) -> AbstractContextManager[None]:
        """Let what is computed inside draw the random numbers of that position."""
        return drawing_from(derive(self.seed, "draw", self.index, step, microbatch))

    def learns(self, by: Collection[LearnsBy]) -> bool:
        """Return whether any output learns by one of these."""
        return any(learns_by in by for learns_by in self._learns_by)

    def learning_signals(
        self, error: Tensor, h: Activations, by: Collection[LearnsBy] = ("feedback", "error")
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs that teach weights of this layer, and what stands for their gradients.

        error: the global error e; h: what forward() returned; by: leaves out others.

        Raises JobError when the shapes do not allow it.
        """
        outputs, gradients = [], []
        learning = zip(tensors(h), self._learns_by, self.feedback, strict=False)
        for output, learns_by, feedback in learning:
            if not output.requires_grad or learns_by not in by:  # a layer without weights has none
                continue
            outputs.append(output)
            e = self._rows_of(error, output)
            if learns_by == "feedback":
                gradients.append(feedback.project(e, output))
                if feedback.spec.rule.matrix == "learned":
                    self._train(feedback.output, feedback.teach(e, output))
            elif feedback.spec.rule.broadcast != "error":
                raise JobError(
                    f"{self.label}: an output learns by the error itself, which "
                    f"feedback.kind={feedback.spec.kind} does not send; use random"
                )
            else:
                gradients.append(self._part_of(e, output))
        return outputs, gradients

    def _rows_of(self, error: Tensor, output: Tensor) -> Tensor:
        """Return the rows of the error that are this layer's: all, where the output has all."""
        if self._learns_from is None or error.shape[1] == output.shape[1]:
            return error
        first, rows = self._learns_from
        return error[:, first : first + rows]

    def _part_of(self, error: Tensor, output: Tensor) -> Tensor:
        """Return the error's last features, as many as the output has: of what is added there."""
        width = output.shape[-1]
        if error.shape[:-1] != output.shape[:-1] or error.shape[-1] < width:
            raise JobError(
                f"{self.label}: an output that learns by the error must have its shape "
                f"{tuple(error.shape)}, or fewer features, not {tuple(output.shape)}"
            )
        return error[..., error.shape[-1] - width :].contiguous().to(output.dtype)

    def _train(self, output: int, b: Tensor) -> None:
        """Let the layer's optimizer train a feedback matrix, which is there since its first error.

        Where nothing of the layer is trained, nor are its matrices.
        """
        name = f"{_FEEDBACK}{output}"
        if self.optimizer is not None and name not in self.parameters:
            self.parameters[name] = b
            self.optimizer.add_param_group({"params": [b]})

    def weights(self) -> list[Tensor]:
        """Return the trained weights of the module, without learned feedback matrices."""
        return [p for name, p in self.parameters.items() if not name.startswith(_FEEDBACK)]

    def _weights_of(self, step: int) -> dict[str, Tensor]:
        """Return the weights that all forwards of a step use; optimizer steps leave them alone."""
        if step not in self._open:
            self._open[step] = {
                name: parameter.detach().clone().requires_grad_()
                for name, parameter in self.parameters.items()
            }
        return self._open[step]

    def gradient_vector(self, step: int) -> Tensor:
        """Return the gradients of batch `step` as one vector, to be summed over replicas.

        Behind them comes which weights have one. All is NaN where the batch is to be left out, so
        that every replica leaves it out.
        """
        holders = self._holders(step)
        gathered = [torch.zeros_like(h) if h.grad is None else h.grad for h in holders]
        have = torch.tensor([float(h.grad is not None) for h in holders])
        vector = torch.cat([*(g.reshape(-1) for g in gathered), have.to(holders[0])])
        return vector.fill_(torch.nan) if step in self._bad else vector

    def take_gradient_vector(self, step: int, vector: Tensor) -> None:
        """Take a sum of such vectors as the gradients of batch `step`."""
        holders = self._holders(step)
        sizes = [*(holder.numel() for holder in holders), len(holders)]
        have = vector[-len(holders) :].tolist()
        *gradients, _ = torch.split(vector.to(holders[0].device, non_blocking=True), sizes)
        for holder, gradient, there in zip(holders, gradients, have, strict=True):
            holder.grad = gradient.view(holder.shape) if there else None

    def running_statistics(self) -> list[Tensor]:
        """Return the saved buffers, that training changes without a gradient (batch norm's)."""
        return [self.module.get_buffer(name) for name in self._statistics]

    @cached_property
    def _statistics(self) -> list[str]:
        saved, buffers = self.module.state_dict(keep_vars=True), self.module.named_buffers()
        return [name for name, b in buffers if name in saved and b.is_floating_point()]

    def _holders(self, step: int) -> list[Tensor]:
        """Return the tensors that gather the gradients of batch `step`."""
        return list((self._weights_of(step) if self._staleness else self.parameters).values())

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
        for name, b in self.parameters.items():
            if name.startswith(_FEEDBACK):
                tensors[name] = b.detach().cpu().clone()
        return tensors, scalars

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state made by `state`, bit for bit."""
        self._take_matrices(tensors)
        super().load_state(tensors, scalars)
        self._open.clear()
        for key, gradient in tensors.items():
            if self._staleness and key.startswith("open/"):
                _, step, name = key.split("/", 2)
                weight = self._weights_of(int(step))[name]
                weight.grad = gradient.clone().to(weight.device)

    def _take_matrices(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over learned feedback matrices; those that the state has not are drawn anew."""
        for feedback in self.feedback:
            name = f"{_FEEDBACK}{feedback.output}"
            feedback.b = None
            b = self.parameters.pop(name, None)
            if b is not None and self.optimizer is not None:
                self.optimizer.param_groups.pop()
                self.optimizer.state.pop(b, None)
            if name in tensors:
                like = next(iter(self.module.parameters()))
                feedback.b = tensors[name].clone().to(like.device)
                self._train(feedback.output, feedback.b)

    def evaluate(self, x: Activations) -> Activations:
        """Return h_i in evaluation mode (no dropout, fixed statistics)."""
        self.module.eval()
        try:
            return self.compute(x)
        finally:
            self.module.train()

    def compute(self, x: Activations, weights: dict[str, Tensor] | None = None) -> Activations:
        """Return h_i, with the module's own weights or with these, after all checks.

        Raises JobError as forward() does.
        """
        arguments = tensors(x)
        try:
            with computing_in(self._precision, arguments[0]):
                if weights is None:
                    h = self.module(*arguments)
                else:
                    h = functional_call(self.module, weights, tuple(arguments))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            what = " ".join(str(error).split())
            shapes = ", ".join(str(tuple(t.shape)) for t in arguments)
            raise JobError(f"{self.label} fails on an input of {shapes}: {what}") from error
        found = h if isinstance(h, tuple) else (h,)
        for one in found:
            if not isinstance(one, Tensor) or one.dim() < 1 or len(one) != len(arguments[0]):
                got = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
                raise JobError(
                    f"{self.label} returned {got} for {len(arguments[0])} samples; a layer returns "
                    f"a tensor whose first dimension counts the samples, or a tuple of such"
                )
        samples = tuple(one.shape[1:] for one in found)
        if samples != (self._shapes or samples):
            now, before = (", ".join(str(tuple(s)) for s in of) for of in (samples, self._shapes))
            raise JobError(
                f"{self.label} returned samples of {now}, but of {before} before; a layer's output "
                f"must keep its shape"
            )
        self._shapes = samples
        # contiguous: as a message has it, or the next layer's bits could depend on where it is
        passed = (passed_on(one, self._activations) for one in of_one_type(found))
        found = tuple(one.contiguous() for one in passed)
        return found if isinstance(h, tuple) else found[0]


def build_layers(model: Model, first: int, last: int, rule: LearningRule) -> list[Layer]:
    """Build layers first..last-1 of the model where they are called for, and no others."""
    return [Layer(i, model.build_layer(i, rule.seed), rule) for i in range(first, last)]
