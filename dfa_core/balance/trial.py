"""Sends a few samples of each part of the data through the model, before the first step.

One layer is in memory at a time. What a part of the data has that the model, the head or the loss
does not take is found here, and the forms of the tensors between the layers are recorded.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dfa_core.activations import Activations, ActivationSpec, TensorSpec, detached
from dfa_core.errors import JobError
from dfa_core.head import Head
from dfa_core.layer import Layer
from dfa_core.loss import Loss
from dfa_core.model import Model
from dfa_core.rule import LearningRule


class Trial:
    """Samples of one part of the data on their way through the model.

    form: of one sample; between[i] enters layer i, the last one the head. h: what enters the head.
    output: what the head returned, on the CPU.
    """

    def __init__(
        self, part: str, x: Tensor, target: Tensor, trained_on: TensorSpec | None = None
    ) -> None:
        """part: of the data, such as `test`; x, target: some of its samples.

        trained_on: the form of the training samples. None: these are training samples, and run in
            training mode, with the loss; others run as in an evaluation.
        """
        self.part, self.target, self._trained_on = part, target, trained_on
        self.form = TensorSpec.of(x)
        self.between = [ActivationSpec.of(x)]
        self.h: Activations = x
        self.output = torch.empty(0)

    @property
    def trains(self) -> bool:
        """Return whether these are training samples."""
        return self._trained_on is None

    def to(self, device: torch.device) -> None:
        """Move the samples to where the model computes, before the first layer."""
        if isinstance(self.h, Tensor):
            self.h = self.h.to(device)
        if self.trains:
            self.target = self.target.to(device)

    def through(self, layer: Layer) -> None:
        """Run the samples through the next layer. Raises JobError, which names the part."""
        try:
            if self.trains:
                self.h = detached(layer.forward(detached(self.h), 0, 0))
            else:
                with torch.no_grad():
                    self.h = layer.evaluate(self.h)
            self.between.append(ActivationSpec.of(self.h, narrow=layer.rule.narrow))
        except JobError as error:
            raise self.refused(error) from error

    def to_the_end(self, head: Head) -> None:
        """Run the samples through the head and, in training, the loss. Raises as through()."""
        try:
            if self.trains:
                loss, output, _ = head.forward_loss(self.h, self.target, 0, 0)
                number(loss, "the loss")
            else:
                output = head.evaluate(self.h)
            self.output = output.detach().cpu()
        except JobError as error:
            raise self.refused(error) from error

    def refused(self, error: Exception) -> JobError:
        """Return an error that names the part of the data."""
        if self._trained_on in (None, self.form):
            return JobError(f"the {self.part} data: {error}")
        return JobError(
            f"the {self.part} data, with samples of {self.form} where the training data has "
            f"{self._trained_on}: {error}; give it the form of the training data"
        )


def number(value: Any, what: str) -> float:
    """Return the one number that a loss or metric gave; what: names it. Raises JobError."""
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        got = f"a tensor of {shape}" if shape else type(value).__name__
        raise JobError(
            f"{what} returned {got}; it must return one number, the mean over the samples"
        ) from error


def try_out(
    model: Model, loss: Loss, rule: LearningRule, trials: Sequence[Trial], device: torch.device
) -> Head:
    """Run all trials through the model on this device; return its head.

    Raises JobError when samples do not fit the model.
    """
    for trial in trials:
        trial.to(device)
    for layer in one_by_one(model, rule, device):
        for trial in trials:
            trial.through(layer)
    head = Head(model, loss, rule)
    head.to(device)
    for trial in trials:
        trial.to_the_end(head)
    return head


def one_by_one(model: Model, rule: LearningRule, device: torch.device) -> Iterator[Layer]:
    """Yield the layers in order, on a device; only one of them is in memory."""
    for index in range(len(model.layers)):
        layer = Layer(index, model.build_layer(index, rule.seed), rule)
        layer.to(device)
        yield layer
