"""A running average of a module's weights, for evaluations (Polyak and Juditsky 1992)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from dfa_core.errors import JobError

_PREFIX = "average/"  # in a state, before the name of the parameter


class WeightAverage:
    """The exponential moving average of trained weights: a <- d a + (1 - d) w after each step.

    It starts as the first weights. In step t, counted from 0, d is the smaller of `decay` and
    (1 + t) / (10 + t), so that the first weights are soon forgotten, as torch and TensorFlow users
    know it. It depends on the step alone, so a resumed run gives the same bits.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        """parameters: the module's trained ones, by name; decay: above 0, below 1."""
        self._parameters, self._decay = dict(parameters), decay
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self._averages = {name: average.to(device) for name, average in self._averages.items()}

    def update(self, step: int) -> None:
        """Add the weights that the optimizer step of `step` has left."""
        kept = min(self._decay, (1 + step) / (10 + step))
        for name, average in self._averages.items():
            average.mul_(kept).add_(self._parameters[name].detach(), alpha=1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module compute with the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._averages[name] = self._averages[name], parameter.data

    def state(self) -> dict[str, Tensor]:
        """Return CPU copies, as `average/{name}`."""
        return {
            f"{_PREFIX}{name}": average.cpu().clone(memory_format=torch.contiguous_format)
            for name, average in self._averages.items()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state. Raises JobError if it lacks an average."""
        for name, average in self._averages.items():
            saved = tensors.get(f"{_PREFIX}{name}")
            if saved is None or saved.shape != average.shape:
                raise JobError(f"the saved state holds no average of the weight {name}")
            average.copy_(saved)


def averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a module's saved state by name: their averages, where there are any."""
    weights = _named(tensors, "weights/")
    return weights | _named(tensors, _PREFIX)


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
