"""Keeps a user's code from changing, in place, a tensor that others still need."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dfa_core.errors import JobError


class InputGuard:
    """Hands tensors to code that may work in place, such as nn.ReLU(inplace=True).

    What one layer passes to the next is also needed for the first one's own gradient, and on
    several blocks it lies in another process: without the guard, bits would depend on the cut. The
    first call gets copies. If it changes them, every later call gets copies too; otherwise later
    calls get the tensors themselves, and are watched.
    """

    def __init__(self, label: str) -> None:
        """label: how messages name the code."""
        self._label = label
        self._works_in_place: bool | None = None  # not known before the first call

    @contextmanager
    def given(self, inputs: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
        """Return the tensors to work with inside the block: these, or copies within their graph.

        Raises JobError if the code works in place now and did not in its first call.
        """
        used = inputs if self._works_in_place is False else [tensor.clone() for tensor in inputs]
        before = [tensor._version for tensor in used]
        yield used
        changed = [tensor._version for tensor in used] != before
        if self._works_in_place is None:  # not all code counts versions: x.data, x.numpy()
            pairs = zip(used, inputs, strict=True)
            changed = changed or not all(torch.equal(a, b) for a, b in pairs)
        if changed and self._works_in_place is False:
            raise JobError(
                f"{self._label} changed its input in place, and did not in its first call; let it "
                f"work on a copy (input.clone()) there"
            )
        self._works_in_place = self._works_in_place or changed
