"""Delayed mode: each open step keeps the weights that its forwards used."""

from collections.abc import Mapping

import torch
from torch import Tensor

_PREFIX = "open/"  # in a state, before the step and the name of the parameter


class OpenWeights:
    """Copies of a layer's weights, one set for each step whose optimizer step is still to come.

    With staleness s, later optimizer steps change the parameters while microbatches of an older
    step still wait for their error. Their gradients therefore belong to, and are summed in, a copy
    of the weights from the first forward of that step (dfa_core/schedule.py, delayed mode).
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        """parameters: the layer's trained parameters by name; this mapping stays unchanged."""
        self._parameters = parameters
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._spare: list[dict[str, Tensor]] = []  # memory that is not in use: new pages are slow

    def of(self, step: int) -> dict[str, Tensor]:
        """Return the weights of `step` by name; the first call copies the parameters."""
        if step not in self._weights:
            self._weights[step] = self._copies()
        return self._weights[step]

    def _copies(self) -> dict[str, Tensor]:
        spare = self._spare.pop() if self._spare else {}
        if spare.keys() != self._parameters.keys():
            spare = {
                name: torch.empty_like(parameter).requires_grad_()
                for name, parameter in self._parameters.items()
            }
        for name, parameter in self._parameters.items():
            spare[name].data.copy_(parameter.detach())
        return spare

    def close(self, step: int) -> None:
        """Hand the gradients of `step` to the parameters and drop its copies, if there are any."""
        copies = self._weights.pop(step, None)
        if copies is None:
            return
        for name, weight in copies.items():
            self._parameters[name].grad, weight.grad = weight.grad, None
        self._spare.append(copies)

    def state(self) -> dict[str, Tensor]:
        """Return CPU copies of all open gradients, as `open/{step}/{name}`."""
        return {
            f"{_PREFIX}{step}/{name}": weight.grad.detach().cpu().clone()
            for step, weights in self._weights.items()
            for name, weight in weights.items()
            if weight.grad is not None
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the gradients of a state; the parameters must already be those of the state.

        Raises KeyError if the state names a parameter that the layer does not have.
        """
        self._weights.clear()
        for key, gradient in tensors.items():
            if key.startswith(_PREFIX):
                step, name = key.removeprefix(_PREFIX).split("/", 1)
                weight = self.of(int(step))[name]
                weight.grad = gradient.clone().to(weight.device)
