"""A block of residual layers whose feedback also takes a few hops through later layers.

Highway backpropagation (arXiv 2501.17086, ICLR 2025). Layer j adds f_j to its input, h_j = h_{j-1}
+ f_j(h_{j-1}), and w_j is the gradient of h_j. Backpropagation is

    w_i = e + the sum of v_j for all j > i,    where v_j = (∂f_j/∂h_{j-1})^T · w_j,

layer after layer, from the last one. Here all v_j are computed at the same time from the w_j of the
hop before, which begin as e: identity feedback is 0 hops. Hop k adds what comes through k later
layers, and as many hops as there are layers below the last one are backpropagation.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dfa_core.activations import Activations, tensors
from dfa_core.block.block import backward
from dfa_core.block.given_gradients import with_gradients
from dfa_core.block.inputs_kept import InputsKept
from dfa_core.block.layers_in_order import OnLayer, skip_if_non_finite
from dfa_core.errors import JobError
from dfa_core.layer import Layer, LearnsBy
from dfa_core.passed_gradients import gradients_of


class LaterSums(Protocol):
    """The sums of v_j over the layers of later blocks, one a hop."""

    def take(self) -> Tensor | None:
        """Return the next sum; None at the last block."""

    def give(self, total: Tensor | None) -> None:
        """Pass on the next sum, with this block's own v_j."""


class NoLaterBlocks:
    """A block that has the whole model."""

    def take(self) -> Tensor | None:
        """Return None: there are no later layers."""
        return None

    def give(self, total: Tensor | None) -> None:
        """Do nothing: there is no block before."""


class HoppingBlock(InputsKept):
    """Residual layers that learn from e and from hops; see LearningRule.feedback.hops.

    The sums run from the last layer of the model to the first, one layer after another, so the bits
    do not depend on where the model is cut.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Raises JobError for a layer that learns by something else than its feedback."""
        super().__init__(layers)
        by_error: tuple[LearnsBy, ...] = ("error", "identity")
        for layer in layers:
            if layer.learns(by_error):
                raise JobError(
                    f"feedback.hops: an output of {layer.label} learns by the error itself; hops "
                    f"are for residual streams: set feedback.hops to 0"
                )
        self.later: LaterSums = NoLaterBlocks()

    def update(
        self, error: Tensor, step: int, microbatch: int, each: OnLayer | None = None
    ) -> None:
        """Add the local gradients of one microbatch; arguments and errors as for Block.update.

        The last hop's sums arrive before the weights' gradients are computed.
        """
        key = (step, microbatch)
        inputs, outputs = self._inputs.pop(key), self._waiting.pop(key)
        signals = [error] * len(self.layers)
        for _ in range(self.layers[0].rule.feedback.hops):
            signals = self._hop(error, signals, inputs, outputs, step, microbatch)
        skip = skip_if_non_finite(self.layers, error, step)
        for layer, signal, h in zip(self.layers, signals, outputs, strict=True):
            if not skip:
                with layer.drawing_backward(step, microbatch):
                    backward([(layer, h)], signal, step, microbatch)
            if each is not None:
                each(layer, step)

    def _hop(
        self,
        error: Tensor,
        signals: Sequence[Tensor],
        inputs: Sequence[Activations],
        outputs: Sequence[Activations],
        step: int,
        microbatch: int,
    ) -> list[Tensor]:
        """Return w_i after one more hop."""
        added = []
        for layer, w, x, h in zip(self.layers, signals, inputs, outputs, strict=True):
            with layer.drawing_backward(step, microbatch):
                added.append(_through(layer, w, x, h))
        total, found = self.later.take(), list[Tensor]()
        for v in reversed(added):
            found.append(error if total is None else error + total)
            if v is not None:
                total = v if total is None else total + v
        self.later.give(total)
        return found[::-1]


def _through(layer: Layer, w: Tensor, x: Activations, h: Activations) -> Tensor | None:
    """Return v_j = (∂f_j/∂h_{j-1})^T · w_j, damped; None for the first layer.

    Raises JobError when the layer's input has not the shape of its output.
    """
    if not layer.index:
        return None
    stream, into = tensors(h)[0], tensors(x)[0]
    if stream.shape != into.shape:
        raise JobError(
            f"feedback.hops: {layer.label} maps {tuple(into.shape)} to {tuple(stream.shape)}; hops "
            f"are for residual streams, whose layers keep the shape: set feedback.hops to 0"
        )
    if stream.requires_grad:
        scalar = with_gradients([stream], [w.to(stream.dtype)])
        torch.autograd.backward(scalar, inputs=[into], retain_graph=True)
    whole = gradients_of(x)
    found = (w.new_zeros(w.shape) if whole is None else tensors(whole)[0].to(w.dtype)) - w
    into.grad = None
    damping = layer.rule.feedback.damping
    return found if damping == 0.0 else found * (1.0 - damping)
