"""Checks what a user's module returns before anything else relies on it."""

import torch
from torch import Tensor

from dfa_core.errors import JobError


class OutputCheck:
    """Accepts the outputs of one layer as long as the shape of a sample stays the same."""

    def __init__(self, label: str) -> None:
        """label: how messages name the layer."""
        self._label = label
        self._shapes: tuple[torch.Size, ...] = ()  # of one sample, for each tensor

    def check(self, output: object, samples: int) -> tuple[Tensor, ...]:
        """Return the tensors of an output; samples: how many samples went in.

        Raises JobError if the output is not a tensor with `samples` rows or a tuple of such
        tensors, or if the shape of a sample differs from the one before.
        """
        outputs = output if isinstance(output, tuple) else (output,)
        for tensor in outputs:
            if not isinstance(tensor, Tensor) or tensor.dim() < 1 or len(tensor) != samples:
                got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                raise JobError(
                    f"{self._label} returned {got} for {samples} samples; a layer returns a tensor "
                    f"whose first dimension counts the samples, or a tuple of such tensors"
                )
        shapes = tuple(tensor.shape[1:] for tensor in outputs)
        if shapes != (self._shapes or shapes):
            raise JobError(
                f"{self._label} returned samples of {_text(shapes)}, but of {_text(self._shapes)} "
                f"before; a layer's output must keep its shape"
            )
        self._shapes = shapes
        return outputs


def _text(shapes: tuple[torch.Size, ...]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)
