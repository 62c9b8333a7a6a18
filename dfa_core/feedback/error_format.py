"""How the global error travels to the blocks: unchanged, or in fewer bytes.

Blocks train on the decoded error, and so does the single-process reference. A row is the error's
last dimension: the features of one sample, token or point. Each row has its own scale.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from dfa_core.activations import TensorSpec

ErrorKind = Literal["fp32", "bf16", "int8", "ternary", "topk"]

_CODE_FACTORS = torch.tensor([1, 4, 16, 64], dtype=torch.uint8)  # four two-bit codes in a byte


@dataclass(frozen=True)
class ErrorFormat:
    """One way to send an error.

    kind:
        `fp32`: unchanged.
        `bf16`: rounded.
        `int8`: in steps of 1/127 of the row's largest magnitude.
        `ternary`: minus, zero or plus the row's largest magnitude, in two bits, drawn so that the
            expectation is the error (TernGrad: Wen 2017, eq. 1 to 3). Optical DFA projects such
            errors (Launay 2020, arXiv 2012.06373).
        `topk`: the numbers of largest magnitude in each row; the others become zero.
    keep: share of a row that `topk` sends, rounded up to a whole number of entries.
    """

    kind: ErrorKind = "fp32"
    keep: float = 0.1

    @property
    def draws(self) -> bool:
        """Return whether encode() draws from torch's generator."""
        return self.kind == "ternary"

    def encode(self, error: Tensor) -> Tensor:
        """Return the message, (samples, ...), for an error, (samples, ..., features)."""
        match self.kind:
            case "fp32":
                return error
            case "bf16":
                return error.bfloat16()
            case "int8":
                return _join(*_to_int8(error))
            case "ternary":
                return _join(*_to_ternary(error))
            case "topk":
                return _join(*self._largest(error))

    def decode(self, message: Tensor, error: TensorSpec) -> Tensor:
        """Return the error of a message, (samples, ..., features); error: its spec."""
        rows = (len(message), *error.shape[:-1])
        match self.kind:
            case "fp32":
                return message
            case "bf16":
                return message.float()
            case "int8":
                steps, scale = _cut(message, rows, (error.shape[-1], torch.int8), (1, torch.float))
                return steps.float() * scale
            case "ternary":
                packed, scale = _cut(
                    message, rows, (-(-error.shape[-1] // 4), torch.uint8), (1, torch.float)
                )
                codes = (packed.unsqueeze(-1) // _CODE_FACTORS.to(packed.device)) % 4
                return (codes.flatten(-2)[..., : error.shape[-1]].float() - 1) * scale
            case "topk":
                k, index_type = self._kept(error.shape[-1]), _index_type(error.shape[-1])
                values, index = _cut(message, rows, (k, torch.float), (k, index_type))
                decoded = torch.zeros(*rows, error.shape[-1], device=message.device)
                return decoded.scatter_(-1, index.long(), values)

    def message(self, error: TensorSpec) -> TensorSpec:
        """Return the spec of the message for an error."""
        return TensorSpec.of(self.encode(torch.zeros(1, *error.shape, dtype=error.dtype)))

    def _kept(self, features: int) -> int:
        return min(features, max(1, -int(-self.keep * features // 1)))

    def _largest(self, error: Tensor) -> tuple[Tensor, Tensor]:
        features = error.shape[-1]
        index = error.abs().topk(self._kept(features), dim=-1).indices
        return error.gather(-1, index), index.to(_index_type(features))


def _to_int8(error: Tensor) -> tuple[Tensor, Tensor]:
    scale = error.abs().amax(-1, keepdim=True) / 127
    steps = (error / torch.where(scale == 0, 1.0, scale)).round()
    return steps.nan_to_num().to(torch.int8), scale  # a non-finite row has a non-finite scale


def _to_ternary(error: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = error.abs()
    scale = magnitude.amax(-1, keepdim=True)
    non_zero = torch.rand(magnitude.shape, device=magnitude.device) * scale < magnitude
    codes = (error.nan_to_num().sign() * non_zero + 1).to(torch.uint8)
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % 4))
    packed = codes.reshape(*codes.shape[:-1], -1, 4) * _CODE_FACTORS.to(codes.device)
    return packed.sum(-1).to(torch.uint8), scale  # a non-finite row has a non-finite scale


def _index_type(features: int) -> torch.dtype:
    return torch.uint8 if features <= 1 << 8 else torch.int16 if features <= 1 << 15 else torch.int


def _join(*fields: Tensor) -> Tensor:
    """Put tensors of the same samples side by side, as bytes."""
    return torch.cat([f.contiguous().flatten(1).view(torch.uint8) for f in fields], dim=1)


def _cut(
    message: Tensor, rows: tuple[int, ...], *fields: tuple[int, torch.dtype]
) -> tuple[Tensor, ...]:
    """Undo _join.

    rows: (samples, ...), the dimensions before the features; fields: (features, dtype) of each.
    """
    rows_per_sample = prod(rows[1:])
    sizes = [rows_per_sample * features * dtype.itemsize for features, dtype in fields]
    # clone: viewing bytes as another dtype needs an aligned address
    pieces = (
        piece.clone(memory_format=torch.contiguous_format)
        for piece in torch.split(message, sizes, dim=1)
    )
    return tuple(
        piece.view(dtype).view(*rows, features)
        for piece, (features, dtype) in zip(pieces, fields, strict=True)
    )
