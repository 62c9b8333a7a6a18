"""Feedback matrices: what carries the global error to a layer, in place of transposed weights."""

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

    kind: one of feedback_rules.py: `random` is the paper's.
    distribution: of the entries: uniform in [-1, 1), standard Gaussian, or -1/+1 (Rademacher).
    shared: one matrix for all layers, of which each takes its first columns (as in TinyDFA).
    sent_as: how the error travels.
    scale: every entry is multiplied by scale / sqrt(features of the layer), which for `uniform`
        and 1.0 is how torch initialises a linear head of that width; for `identity`, by scale.
    """

    kind: FeedbackKind = "random"
    distribution: Distribution = "uniform"
    shared: bool = False
    scale: float = 1.0
    sent_as: ErrorFormat = field(default_factory=ErrorFormat)

    @property
    def rule(self) -> FeedbackRule:
        """Return what is broadcast, and through which matrix."""
        return FEEDBACK_RULES[self.kind]


class Feedback:
    """B_i of one layer, drawn from (job seed, layer index) when the first error arrives."""

    def __init__(
        self, spec: FeedbackSpec, seed: int, layer: int, sample_dims: int = 1, output: int = 0
    ) -> None:
        """output: which of the layer's tensors it teaches."""
        self.spec = spec
        self.layer, self.output = layer, output
        self.sample_dims = sample_dims
        further = (output,) if output else ()
        self._seed = derive(seed, "feedback", "shared" if spec.shared else layer, *further)
        self.b: Tensor | None = None

    @property
    def is_learned(self) -> bool:
        """Return whether B_i is trained too."""
        return self.spec.rule.matrix == "learned"

    def project(self, error: Tensor, output: Tensor) -> Tensor:
        """Return e·B_i, shaped like the layer's output (Nøkland 2016, eq. 7).

        error: the global error, (samples..., error features...), `sample_dims` sample dimensions.
        output: h_i, with the same sample dimensions; the rest are the layer's features.

        Raises JobError when the shapes cannot be brought together.
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
        like = error if self.is_learned else output  # what is trained stays fp32
        matrix = self.matrix(prod(error.shape[dims:]), prod(output.shape[dims:]), like)
        flat = error.reshape(-1, matrix.shape[0]).to(matrix.dtype)
        return (flat @ matrix).view(output.shape).to(output.dtype)

    def add_gradient(self, error: Tensor, output: Tensor) -> None:
        """Add e^T·h_i to the gradient of a learned B_i (Webster 2021, after Kolen and Pollack).

        This is the gradient of a linear head that reads h_i. With the same optimizer and weight
        decay, B_i therefore grows like the path from h_i to the output.

        error, output: as for project().
        """
        flat = error.reshape(-1, prod(error.shape[self.sample_dims :]))
        h = output.detach().reshape(len(flat), -1).to(flat.dtype)
        b = self.matrix(flat.shape[1], h.shape[1], flat)
        gradient = flat.T @ h
        b.grad = gradient if b.grad is None else b.grad.add_(gradient)

    def matrix(self, error_features: int, features: int, like: Tensor) -> Tensor:
        """Return B_i, (error features, features), in the dtype and on the device of `like`."""
        shape = (error_features, features)
        b = self.b
        if b is None or b.shape != shape or b.dtype != like.dtype or b.device != like.device:
            entries = draw(self.spec.distribution, self._seed, error_features, features)
            scaled = entries * np.float32(self.spec.scale / sqrt(features))
            b = torch.from_numpy(np.ascontiguousarray(scaled.T)).to(like)
            self.b = b
        return b


def draw(
    distribution: Distribution, seed: int, error_features: int, features: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Draw (features, error features) entries; fewer features give a prefix of the same rows.

    NumPy's generators fill in order, which torch's vectorised ones do not: that prefix is what
    lets layers of different widths share one matrix without anyone knowing the widest.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = (features, error_features)
    if distribution == "gaussian":
        return rng.standard_normal(shape, dtype=np.float32)
    uniform = rng.random(shape, dtype=np.float32)
    if distribution == "rademacher":
        return np.where(uniform < 0.5, np.float32(-1), np.float32(1)).astype(np.float32)
    return uniform * np.float32(2) - np.float32(1)
