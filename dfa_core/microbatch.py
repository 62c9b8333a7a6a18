"""Cuts a batch into the equal parts that flow through the blocks one behind another."""

from torch import Tensor

from dfa_core.errors import JobError


def split(batch: Tensor, microbatches: int) -> list[Tensor]:
    """Cut along the first dimension into M equal parts, each in memory of its own.

    In memory of its own, because a matrix product may round differently at another alignment, and
    a part that travelled between processes arrives in a fresh buffer.

    Raises JobError when M does not divide the batch.
    """
    if microbatches < 1 or batch.shape[0] % microbatches:
        raise JobError(
            f"microbatches: {microbatches} does not divide the batch of {batch.shape[0]} samples"
        )
    return [part.clone() for part in batch.chunk(microbatches)]
