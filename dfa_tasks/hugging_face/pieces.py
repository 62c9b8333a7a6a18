"""The pieces of a transformers model. Each runs the model's own forward, up to or from its place.

No piece knows how a model makes masks, positions or rotary embeddings: the forward that the library
wrote makes them again, with other modules in the places of the blocks. A piece holds the weights
of its own place alone.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from dfa_core import JobError
from dfa_tasks.hugging_face.skeleton import (
    BlockReached,
    PassOn,
    Skeleton,
    StopHere,
    outside,
    run,
    shared_copy,
    trial_input,
)

_SHAPES_KEPT = 8  # number of input shapes whose contexts are kept


class Piece(nn.Module):
    """A part of a model.

    stands_for: what tables call it. Its repr names no submodules: some have no weights here.
    """

    def __init__(self, stands_for: str) -> None:
        super().__init__()
        self.stands_for = stands_for

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stands_for})"


class TransformerEmbedding(Piece):
    """All that runs before the first block: (n, t) ids or (n, c, h, w) pixels -> (n, t, d)."""

    def __init__(self, skeleton: Skeleton, pad: int | None) -> None:
        """pad: the token id of padding, which no token attends to; None: there is none."""
        super().__init__("Embedding")
        self.learns_by = _learns_by(pad)
        self.model, self._pad = _with_stand_ins(skeleton), pad
        stack: Any = self.model.get_submodule(skeleton.layout.stack)
        stack[0] = StopHere(stack[0])
        for name, _ in outside(self.model, skeleton.layout.stack):
            if name not in skeleton.layout.before:
                _set(self.model, name, None)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the hidden states, and the mask if there is padding."""
        mask = None if self._pad is None else (x != self._pad)
        hidden = _reached(self.model, x, mask).hidden
        return hidden if mask is None else (hidden, mask.to(hidden.dtype))


class TransformerBlock(Piece):
    """One block: (n, t, d) -> (n, t, d)."""

    def __init__(self, skeleton: Skeleton, index: int, pad: int | None) -> None:
        block = skeleton.model.get_submodule(f"{skeleton.layout.stack}.{index}")
        super().__init__(type(block).__name__)
        self.learns_by = _learns_by(pad)
        self.block = shared_copy(block)
        self.model = _without_weights(skeleton)
        stack: Any = self.model.get_submodule(skeleton.layout.stack)
        stack[index] = StopHere(stack[index])
        self._contexts: dict[Any, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.block!r})"

    def forward(self, h: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the block's hidden states, and the mask if there is padding."""
        args, kwargs = self._context(h, mask)
        out = self.block(h, *args, **kwargs)
        hidden = out[0] if isinstance(out, tuple) else out
        return hidden if mask is None else (hidden, mask)

    def train(self, mode: bool = True) -> Self:
        """Set the block's mode; the forward around it stays in evaluation mode.

        Its dropout would draw numbers where a context is made again, and not where it is kept.
        """
        super().train(mode)
        self.model.eval()
        return self

    def _context(self, h: Tensor, mask: Tensor | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the model gives to the block besides h; it depends on shapes and mask."""
        state = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        key = (h.shape, h.dtype, h.device, torch.is_autocast_enabled(h.device.type), *state)
        if mask is None and key in self._contexts:
            return self._contexts[key]
        x = trial_input(self.model, h.shape[0], h.shape[1]).to(h.device)
        reached = _reached(self.model, x, None if mask is None else mask.bool())
        if mask is None and len(self._contexts) < _SHAPES_KEPT:
            self._contexts[key] = reached.args, reached.kwargs
        return reached.args, reached.kwargs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_contexts": {}}  # also of a copy, which may go to another device


class TransformerHead(Piece):
    """All that runs after the last block: (n, t, d) -> the model's output."""

    def __init__(self, skeleton: Skeleton, pad: int | None) -> None:
        super().__init__(f"of {skeleton.class_name}")
        self._pad = pad
        self.model = _with_stand_ins(skeleton)
        stack: Any = self.model.get_submodule(skeleton.layout.stack)
        self._last: list[PassOn] = [stack[-1]]  # in a list: it is a part of the model already
        _replace_what_ran_before(self.model, skeleton)

    def forward(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output for hidden states."""
        x = trial_input(self.model, h.shape[0], h.shape[1]).to(h.device)
        if mask is not None:  # the head may look for the last token before the padding
            x = x.masked_fill(~mask.bool(), self._pad or 0)
        self._last[0].instead = h
        try:
            return run(self.model, x, None if mask is None else mask.bool())
        finally:
            self._last[0].instead = None


def _learns_by(pad: int | None) -> tuple[str, ...]:
    """Return what the outputs learn by: h, and if there is padding, its mask.

    The mask, (samples, tokens), is 1 for a token and 0 for padding, of h's dtype.
    """
    return ("feedback",) if pad is None else ("feedback", "nothing")


def _reached(model: nn.Module, x: Tensor, mask: Tensor | None) -> BlockReached:
    try:
        run(model, x, mask)
    except BlockReached as reached:
        return reached
    raise JobError(f"{type(model).__name__} never reached its block")


def _with_stand_ins(skeleton: Skeleton) -> nn.Module:
    """Return a copy without blocks; what is outside of them is the model's own."""
    model = shared_copy(skeleton.model)
    stack: Any = model.get_submodule(skeleton.layout.stack)
    for index in range(skeleton.layout.blocks):
        stack[index] = PassOn(stack[index], skeleton.layout.returns_tuple)
    return model


def _without_weights(skeleton: Skeleton) -> nn.Module:
    model = _with_stand_ins(skeleton)
    _replace_what_ran_before(model, skeleton)
    for name, _ in outside(model, skeleton.layout.stack):
        _set(model, name, None)
    return model


def _replace_what_ran_before(model: nn.Module, skeleton: Skeleton) -> None:
    """Replace the embedding's weights by NaN: what it computes must not be used here.

    A model that does use it gives NaN, which the comparison with the whole model notices, however
    small its weights are.
    """
    for name in sorted(skeleton.layout.before):
        place, _, own = name.rpartition(".")
        part = model.get_submodule(place)
        if type(part) is nn.Embedding:
            parent, _, child = place.rpartition(".")
            setattr(model.get_submodule(parent), child, _NoEmbedding(part))
        elif not isinstance(part, _NoEmbedding):
            _set(model, name, _unusable(getattr(part, own)))


class _NoEmbedding(nn.Module):
    """NaN in place of an embedding, without its table."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        row = torch.empty(1, embedding.embedding_dim, dtype=embedding.weight.dtype)
        self.weight: Tensor
        self.register_buffer("weight", _unusable(row), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...,) -> (..., d)."""
        return self.weight[0].expand(*ids.shape, -1)


def _unusable(value: Tensor) -> Tensor:
    """Return NaN in a tensor's shape; zeros where its numbers are integers, such as positions."""
    fill = torch.nan if value.is_floating_point() else 0
    return torch.full_like(value, fill).detach()


def _set(model: nn.Module, name: str, value: Tensor | None) -> None:
    """Take a weight or buffer out of a model; put a buffer that is not stored in its place."""
    place, _, own = name.rpartition(".")
    part = model.get_submodule(place)
    part._parameters.pop(own, None)
    part._buffers.pop(own, None)
    part.register_buffer(own, value, persistent=False)
