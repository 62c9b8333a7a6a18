"""Feedback matrices: they project the global error to a layer, in place of transposed weights."""

from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dfa_core.errors import JobError
from dfa_core.feedback.error_format import ErrorFormat
from dfa_core.feedback.rules import FEEDBACK_RULES, FeedbackKind, FeedbackRule
from dfa_core.seeding import derive

Distribution = Literal["uniform", "gaussian", "rademacher"]


@dataclass(frozen=True)
class FeedbackSpec:
    """How every layer's feedback matrix B_i is made.

    kind: one of the rules in rules.py; `random` is the rule of the paper (Nøkland 2016).
    distribution: distribution of the entries: uniform in [-1, 1), standard Gaussian, or -1 and +1
        (Rademacher).
    shared: whether all layers use one matrix. Each takes as many of its first columns as it has
        features (as in TinyDFA).
    scale: every entry is multiplied by scale / sqrt(features of the layer). For `uniform` and 1.0
        this is torch's initialisation of a linear head of that width. For `identity` the error is
        multiplied by scale.
    sent_as: how the error travels.
    hops: for `identity`, the number of later layers that the gradient also flows through (k in
        arXiv 2501.17086, where k = 0 is `identity` itself).
    damping: a gradient that flows through a layer is multiplied by 1 - damping (gamma there).
    """

    kind: FeedbackKind = "random"
    distribution: Distribution = "uniform"
    shared: bool = False
    scale: float = 1.0
    sent_as: ErrorFormat = field(default_factory=ErrorFormat)
    hops: int = 0
    damping: float = 0.0

    @property
    def rule(self) -> FeedbackRule:
        """Return the rule of this kind: what is broadcast, and which matrix projects it."""
        return FEEDBACK_RULES[self.kind]


class Feedback:
    """B_i of one layer, drawn from (job seed, layer index) when the first error arrives."""

    def __init__(
        self, spec: FeedbackSpec, seed: int, layer: int, sample_dims: int = 1, output: int = 0
    ) -> None:
        """layer: its index, from 0; output: which of the layer's tensors learns from this matrix.

        sample_dims: how many leading dimensions of error and output count samples.
        """
        self.spec = spec
        self.layer, self.output = layer, output
        self.sample_dims = sample_dims
        further = (output,) if output else ()
        self._seed = derive(seed, "feedback", "shared" if spec.shared else layer, *further)
        self.b: Tensor | None = None

    @property
    def changes(self) -> bool:
        """Return whether training changes B_i."""
        return self.spec.rule.matrix_changes

    def project(self, error: Tensor, output: Tensor) -> Tensor:
        """Return e·B_i, shaped like the layer's output (Nøkland 2016, eq. 7).

        error: the global error, (samples..., error features...), with `sample_dims` dimensions
            of samples.
        output: h_i, (samples..., features...), with the same dimensions of samples.

        Raises JobError if the shapes do not fit.
        """
        if self.spec.rule.matrix == "identity":
            if error.shape != output.shape:
                raise JobError(
                    f"layer {self.layer}: identity feedback needs an output shaped like the global "
                    f"error {tuple(error.shape)}, but it is {tuple(output.shape)}; use "
                    f"feedback.kind=random, or a residual stream as wide as the error"
                )
            scaled = error if self.spec.scale == 1.0 else error * self.spec.scale
            return scaled.to(output.dtype)
        dims = self.sample_dims
        if error.shape[:dims] != output.shape[:dims]:
            raise JobError(
                f"layer {self.layer}: its output {tuple(output.shape)} and the global error "
                f"{tuple(error.shape)} differ in their first {dims} dimension(s), which count "
                f"the samples; set the task's sample_dims"
            )
        like = error if self.changes else output  # what is trained stays fp32
        matrix = self.matrix(prod(error.shape[dims:]), prod(output.shape[dims:]), like)
        flat = error.reshape(-1, matrix.shape[0]).to(matrix.dtype)
        return (flat @ matrix).view(output.shape).to(output.dtype)

    def own_error(self, signal: Tensor, output: Tensor) -> Tensor:
        """Return the error of a classifier whose logits are h_i·B_i^T: softmax - one-hot, weighed.

        It is the gradient of that classifier's mean cross entropy (Nøkland and Eidnes 2019:
        L_pred).

        signal: minus the one-hot target times a sample's weight, (samples..., classes); output: as
            for project().
        """
        flat = signal.reshape(-1, signal.shape[-1])
        h = output.detach().reshape(len(flat), -1).to(flat.dtype)
        logits = h @ self.matrix(flat.shape[1], h.shape[1], flat).T
        weights = -flat.sum(dim=1, keepdim=True)
        return (logits.softmax(dim=1) * weights + flat).view(signal.shape)

    def add_gradient(self, error: Tensor, output: Tensor) -> None:
        """Add e^T·h_i to the gradient of B_i.

        This is the gradient of a linear head that reads h_i and whose error is e. With the global
        error, and the same optimizer and weight decay, B_i therefore grows like the path from h_i
        to the output (Webster 2021, after Kolen and Pollack).

        error, output: as for project(). If B_i is `averaged`, they are d and u_i over the number of
            samples in the batch, and the sum is what the average takes in (layer/tangents.py).
        """
        flat = error.reshape(-1, prod(error.shape[self.sample_dims :]))
        h = output.detach().reshape(len(flat), -1).to(flat.dtype)
        b = self.matrix(flat.shape[1], h.shape[1], flat)
        gradient = flat.T @ h
        b.grad = gradient if b.grad is None else b.grad.add_(gradient)

    def matrix(self, error_features: int, features: int, like: Tensor) -> Tensor:
        """Return B_i, (error features, features), with the dtype and device of `like`.

        It is drawn again if one of these differs from the last call. An average begins at 0.
        """
        shape = (error_features, features)
        b = self.b
        if b is None or b.shape != shape or b.dtype != like.dtype or b.device != like.device:
            entries = np.zeros((features, error_features), np.float32)
            if self.spec.rule.matrix != "averaged":
                entries = draw(self.spec.distribution, self._seed, error_features, features)
            scaled = entries * np.float32(self.spec.scale / sqrt(features))
            b = torch.from_numpy(np.ascontiguousarray(scaled.T)).to(like)
            self.b = b
        return b


def draw(
    distribution: Distribution, seed: int, error_features: int, features: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Draw entries, (features, error features), float32, before any scale.

    Fewer features give the first rows of the same matrix. So layers of different widths can share
    one matrix, and no layer needs to know the largest width. NumPy's generators fill an array in
    order; torch's vectorised ones do not.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = (features, error_features)
    if distribution == "gaussian":
        return rng.standard_normal(shape, dtype=np.float32)
    uniform = rng.random(shape, dtype=np.float32)
    if distribution == "rademacher":
        return np.where(uniform < 0.5, np.float32(-1), np.float32(1)).astype(np.float32)
    return uniform * np.float32(2) - np.float32(1)
