"""How the global error travels to the blocks: as it is, or in fewer bytes.

What a block learns from is what it can read out of the message; the single-process reference reads
it out of the same message. A row is the error's last dimension, the features of one sample, token
or point, and has a scale of its own.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from dfa_core.activations import TensorSpec

ErrorKind = Literal["fp32", "bf16", "int8", "ternary", "topk"]

_PLACES = torch.tensor([1, 4, 16, 64], dtype=torch.uint8)  # of four two-bit codes in a byte


@dataclass(frozen=True)
class ErrorFormat:
    """One way to send an error.

    kind: `fp32`, as it is; `bf16`; `int8`, in steps of 1/127 of a row's largest magnitude;
        `ternary`, minus, nothing or plus a row's largest magnitude, in two bits, drawn so that the
        mean is right (Wen 2017, TernGrad, eq. 1 to 3): ternary is what optical DFA can project
        (Launay 2020, arXiv 2012.06373); `topk`, a row's largest magnitudes.
    keep: the share of a row that `topk` sends, of which it rounds up.
    """

    kind: ErrorKind = "fp32"
    keep: float = 0.1

    @property
    def draws(self) -> bool:
        """Return whether encode() draws from torch's generator."""
        return self.kind == "ternary"

    def encode(self, error: Tensor) -> Tensor:
        """Return the message for an error (samples, ..., features); its first dimension stays."""
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
        """Return the error of a message, float32; error: of one sample."""
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
                codes = (packed.unsqueeze(-1) // _PLACES.to(packed.device)) % 4
                return (codes.flatten(-2)[..., : error.shape[-1]].float() - 1) * scale
            case "topk":
                k, index = self._kept(error.shape[-1]), _index_type(error.shape[-1])
                values, places = _cut(message, rows, (k, torch.float), (k, index))
                whole = torch.zeros(*rows, error.shape[-1], device=message.device)
                return whole.scatter_(-1, places.long(), values)

    def message(self, error: TensorSpec) -> TensorSpec:
        """Return the spec of the message for an error."""
        made = self.encode(torch.zeros(1, *error.shape, dtype=error.dtype))
        return TensorSpec.of(made)

    def _kept(self, features: int) -> int:
        return min(features, max(1, -int(-self.keep * features // 1)))

    def _largest(self, error: Tensor) -> tuple[Tensor, Tensor]:
        features = error.shape[-1]
        places = error.abs().topk(self._kept(features), dim=-1).indices
        return error.gather(-1, places), places.to(_index_type(features))


def _to_int8(error: Tensor) -> tuple[Tensor, Tensor]:
    scale = error.abs().amax(-1, keepdim=True) / 127
    steps = (error / torch.where(scale == 0, 1.0, scale)).round()
    return steps.nan_to_num().to(torch.int8), scale  # what is not finite shows in the scale


def _to_ternary(error: Tensor) -> tuple[Tensor, Tensor]:
    size = error.abs()
    scale = size.amax(-1, keepdim=True)
    counts = torch.rand(size.shape, device=size.device) * scale < size
    codes = (error.nan_to_num().sign() * counts + 1).to(torch.uint8)
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % 4))
    packed = codes.reshape(*codes.shape[:-1], -1, 4) * _PLACES.to(codes.device)
    return packed.sum(-1).to(torch.uint8), scale  # what is not finite shows in the scale


def _index_type(features: int) -> torch.dtype:
    return torch.uint8 if features <= 1 << 8 else torch.int16 if features <= 1 << 15 else torch.int


def _join(*parts: Tensor) -> Tensor:
    """Put tensors of the same samples side by side, as bytes."""
    return torch.cat([p.contiguous().flatten(1).view(torch.uint8) for p in parts], dim=1)


def _cut(
    message: Tensor, rows: tuple[int, ...], *parts: tuple[int, torch.dtype]
) -> tuple[Tensor, ...]:
    """Undo _join; parts: features and dtype of each."""
    each = prod(rows[1:])
    sizes = [each * features * dtype.itemsize for features, dtype in parts]
    cut = torch.split(message, sizes, dim=1)
    # clone: bytes are read as another type only where their address allows it
    apart = (t.clone(memory_format=torch.contiguous_format) for t in cut)
    return tuple(t.view(d).view(*rows, n) for t, (n, d) in zip(apart, parts, strict=True))
