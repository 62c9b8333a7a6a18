"""The batches of a source, checked: two tensors of one size and form at every step."""

from typing import Any, Protocol

from torch import Tensor

from dfa_core import JobError, TensorSpec


class Reads(Protocol):
    """Whatever gives the batch of a step."""

    def batch(self, step: int) -> Any:
        """Return the inputs and targets of a step; a step always has the same batch."""


class CheckedBatches:
    """Gives a source's batches, or says what is wrong with one."""

    def __init__(self, source: Reads, samples: int) -> None:
        """samples: of each batch."""
        self._source, self._samples = source, samples
        self._form: tuple[TensorSpec, TensorSpec] | None = None  # of inputs and targets

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the whole batch of a step.

        Raises JobError when the source fails, or returns a batch of another size or form than
        before.
        """
        try:
            batch = self._source.batch(step)
        except JobError as error:
            raise JobError(f"the training data of step {step}: {error}") from error
        except Exception as error:
            raise JobError(
                f"the training data of step {step} failed: {type(error).__name__}: {error}"
            ) from error
        x, target = _two_tensors(step, batch)
        if len(x) != self._samples or len(target) != self._samples:
            raise JobError(
                f"the training data of step {step} has {len(x)} inputs and {len(target)} targets, "
                f"batch_size is {self._samples}"
            )
        form = TensorSpec.of(x), TensorSpec.of(target)
        before = self._form or form
        if form != before:
            raise JobError(
                f"the training data of step {step} has inputs of {form[0]} and targets of "
                f"{form[1]}, the batches before {before[0]} and {before[1]}; all need one form"
            )
        self._form = form
        return x, target


def _two_tensors(step: int, batch: object) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a batch. Raises JobError when it is anything else."""
    parts = batch if isinstance(batch, list | tuple) else ()
    if len(parts) == 2 and all(isinstance(part, Tensor) and part.dim() > 0 for part in parts):
        x, target = parts
        return x.detach(), target.detach()  # a graph of the user's would be run through again
    kinds = f" of {', '.join(type(part).__name__ for part in parts)}" if parts else ""
    raise JobError(
        f"the training data of step {step} is a {type(batch).__name__}{kinds}; batch(step) returns "
        f"two tensors, inputs and targets, whose first dimension counts the samples"
    )
