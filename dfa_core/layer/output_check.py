"""Checks what a user's module returns before anything else relies on it."""

from torch import Tensor

from dfa_core.activations import TensorSpec
from dfa_core.errors import JobError


class OutputCheck:
    """Accepts the outputs of one module; in training, as long as a sample keeps its form."""

    def __init__(self, label: str) -> None:
        """label: how messages name the module."""
        self._label = label
        self._forms: tuple[TensorSpec, ...] = ()  # of each tensor, in training

    def check(self, output: object, samples: int, training: bool) -> tuple[Tensor, ...]:
        """Return the tensors of an output; samples: how many samples went in.

        Raises JobError if the output is not a tensor with `samples` rows or a tuple of such
        tensors, or if shape or dtype of a sample differ from the training step before. In
        evaluation they may: the data may have another form.
        """
        outputs = output if isinstance(output, tuple) else (output,)
        for tensor in outputs or (output,):
            if not isinstance(tensor, Tensor) or tensor.dim() < 1 or len(tensor) != samples:
                got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                raise JobError(
                    f"{self._label} returned {got} for {samples} samples; a layer returns a tensor "
                    f"whose first dimension counts the samples, or a tuple of such tensors"
                )
        if training:
            self._check_form(tuple(map(TensorSpec.of, outputs)))
        return outputs

    def _check_form(self, found: tuple[TensorSpec, ...]) -> None:
        before, self._forms = self._forms or found, self._forms or found
        if found == before:
            return
        alike = [spec.dtype for spec in found] == [spec.dtype for spec in before]
        now, then = (
            ", ".join(str(spec.shape if alike else spec) for spec in specs)
            for specs in (found, before)
        )
        raise JobError(
            f"{self._label} returned samples of {now}, but of {then} before; in training, a "
            f"layer's output must keep its shape and dtype"
        )
