"""Samples, which are pairs of an input and a target, and batches of them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from dfa_core import JobError
from dfa_core.errors import reason

Batch = tuple[Tensor, Tensor]


def pair(sample: Any, what: str) -> Sequence[Any]:
    """Return a sample, which is a pair; what: is said in errors. Raises JobError."""
    if not isinstance(sample, list | tuple) or len(sample) != 2:
        raise JobError(f"{what} is {_kind(sample)}; it must be a pair (input, target) of tensors")
    return sample


def collated(samples: Sequence[Sequence[Any]], dataset: str) -> Batch:
    """Return the inputs and targets of samples as two tensors.

    dataset: its name, for errors. Raises JobError when the samples make no batch.
    """
    try:
        x, target = default_collate(list(samples))
    except Exception as error:
        raise JobError(f"samples of {dataset} make no batch: {reason(error)}") from error
    for what, value in (("input", x), ("target", target)):
        if not isinstance(value, Tensor):
            kind = _kind(samples[0][what == "target"])
            raise JobError(
                f"the {what} of a sample of {dataset} is {kind}; it must be one "
                f"tensor: join what belongs to it in the dataset, and take it apart in the "
                f"{'first layer' if what == 'input' else 'loss'}"
            )
    return x.detach(), target.detach()


def _kind(value: object) -> str:
    """Return what a value is, for messages."""
    name = type(value).__name__
    if isinstance(value, dict):
        return f"a {name} of {', '.join(map(str, value))}"
    return f"a {name} of {len(value)}" if isinstance(value, list | tuple) else f"a {name}"
