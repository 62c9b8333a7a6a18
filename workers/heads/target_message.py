"""What the coordinator sends to a worker that hosts the head, and what it gets back."""

import torch
from torch import Tensor

from dfa_core import TensorSpec
from dfa_core.microbatch import Share

LOSS = TensorSpec((), torch.float64)  # of a microbatch
_SHARE_BYTES = 16  # its weight and the total, as float64


def target_message(target: TensorSpec) -> TensorSpec:
    """Return the spec of the message in which a sample's target travels."""
    return TensorSpec((target.bytes + _SHARE_BYTES,), torch.uint8)


def rows_message(target: TensorSpec) -> TensorSpec:
    """Return the spec of the message in which the target of an evaluated sample travels."""
    return TensorSpec((target.bytes,), torch.uint8)


def pack_target(target: Tensor, share: Share) -> Tensor:
    """Return a microbatch's targets and its share as one message, a row of bytes a sample."""
    rows = pack_rows(target)
    of_batch = torch.tensor([share.weight, share.total], dtype=torch.float64).view(torch.uint8)
    return torch.cat([rows, of_batch.expand(len(target), -1)], dim=1)


def unpack_target(packed: Tensor, target: TensorSpec) -> tuple[Tensor, Share]:
    """Return what pack_target() was given."""
    rows, of_batch = packed[:, :-_SHARE_BYTES], packed[0, -_SHARE_BYTES:]
    weight, total = of_batch.clone().view(torch.float64).tolist()
    return unpack_rows(rows, target), Share(weight, total)


def pack_rows(target: Tensor) -> Tensor:
    """Return targets as a row of bytes a sample."""
    return target.reshape(len(target), -1).contiguous().view(torch.uint8)


def unpack_rows(rows: Tensor, target: TensorSpec) -> Tensor:
    """Return what pack_rows() was given."""
    own = rows.clone(memory_format=torch.contiguous_format).view(target.dtype)
    return own.view(len(rows), *target.shape)
