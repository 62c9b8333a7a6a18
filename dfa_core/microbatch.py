"""Cuts a batch into the equal microbatches that flow through the blocks one after another."""

from torch import Tensor

from dfa_core.errors import JobError


def split(batch: Tensor, microbatches: int) -> list[Tensor]:
    """Cut a batch, (samples, ...), into M microbatches, (samples / M, ...), each a copy.

    They are copies because a matrix product may round differently at another memory alignment,
    and a microbatch that travelled between processes arrives in a fresh buffer.

    Raises JobError if M does not divide the batch.
    """
    if microbatches < 1 or batch.shape[0] % microbatches:
        raise JobError(
            f"microbatches: {microbatches} does not divide the batch of {batch.shape[0]} samples"
        )
    return [microbatch.clone() for microbatch in batch.chunk(microbatches)]
