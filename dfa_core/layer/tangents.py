"""Derivatives that travel forward with the activations: what FDFA's matrices are made of.

Forward direct feedback alignment (Bacho and Chu 2022, arXiv 2212.07282): in training, every h_i is
moved by a random direction u_i, whose entries are -1 or 1. Torch's forward mode carries on what the
directions of all layers before do to a layer's output, its tangent; at the end is d, what they
do to y, the tensor that the global error is the gradient of:

    d = the sum over i of (∂y/∂h_i) · u_i,   and so   E[u_i · d^T] = (∂y/∂h_i)^T.

B_i is a running average of these products (feedback/matrix.py). After its own tensors, a layer
passes on as many tangents, (samples, ...) each, of the same shapes. No gradient goes back.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from dfa_core.activations import Activations, tensors
from dfa_core.errors import JobError
from dfa_core.precision import passed_on
from dfa_core.rule import LearningRule
from dfa_core.seeding import Draws, derive, drawing_from

Compute = Callable[[Activations], Activations]


class Tangents:
    """The tangents of one layer's outputs."""

    def __init__(self, index: int, moved: Sequence[int], rule: LearningRule) -> None:
        """index: of the layer, from 0; moved: which of its outputs learn by feedback."""
        self._index, self._moved, self._rule = index, frozenset(moved), rule

    def through(self, compute: Compute, x: Activations, step: int, microbatch: int) -> Activations:
        """Return the outputs of a layer, and then their tangents.

        compute: the layer's forward. x: its input; tangents are its second half, except for the
            first layer.

        Raises JobError where torch knows no forward-mode derivative, and as compute() does.
        """
        given, tangents = (tensors(x), ()) if self._index == 0 else halves(x)
        outputs, moved = pushed(compute, given, tangents)
        if not outputs[0].is_floating_point():
            return outputs
        for number in self._moved & {*range(len(outputs))}:
            moved[number] += self.direction(number, outputs[number], step, microbatch)
        return (*outputs, *passed_on(moved, self._rule.activations))

    def direction(self, output: int, like: Tensor, step: int, microbatch: int) -> Tensor:
        """Return u_i for one output of the layer: -1 or 1, shaped like that output."""
        place = (self._index, output, step, microbatch)
        with drawing_from(derive(self._rule.seed, "direction", *place), Draws.TORCH):
            drawn = torch.rand_like(like, dtype=torch.float32, requires_grad=False)
        return ((drawn < 0.5) * 2 - 1).to(like.dtype)


def halves(x: Activations) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the tensors and their tangents; integers have none."""
    both = tensors(x)
    if not both[0].is_floating_point():
        return both, ()
    return both[: len(both) // 2], both[len(both) // 2 :]


def without_tangents(h: Activations, rule: LearningRule) -> Activations:
    """Return a layer's output in training as an evaluation has it."""
    return tuple(halves(h)[0]) if rule.sends_tangents else h


def pushed(
    compute: Compute, given: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return what compute() makes of some tensors, and the tangents of that, without a graph.

    Raises JobError where torch knows no forward-mode derivative, and as compute() does.
    """
    with forward_ad.dual_level():
        if tangents:
            given = [_dual(tensor, t) for tensor, t in zip(given, tangents, strict=True)]
        try:
            made = compute(given[0] if len(given) == 1 else tuple(given))
        except JobError as error:
            if not re.search(r"forward[- ]?(mode )?AD", str(error)):
                raise
            raise JobError(
                f"{str(error).rstrip('.')}; feedback.kind=forward needs forward-mode derivatives: "
                f"use another kind"
            ) from error
        pairs = [_parts(tensor) for tensor in tensors(made)]
    outputs = tuple(output for output, _ in pairs)
    found = [
        torch.zeros_like(h, requires_grad=False) if t is None else t.detach() for h, t in pairs
    ]
    return outputs, found


def _dual(tensor: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(tensor, tangent)  # type: ignore[no-untyped-call]
    return dual


def _parts(dual: Tensor) -> tuple[Tensor, Tensor | None]:
    tensor, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return tensor, tangent
