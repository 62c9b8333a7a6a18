"""What each layer costs: the numbers that the simulator starts from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class LayerCost:
    """Seconds of one layer for one microbatch; of its optimizer step, once a step.

    update: the local update, projection included. backward: the whole backward pass, which zero
    bubble schedules split into inputs and weights.
    """

    forward: float
    update: float
    backward: float
    inputs: float
    weights: float
    optimizer: float

    # written out: dataclasses.astuple copies deeply, and a prediction adds hundreds of thousands
    def __add__(self, other: "LayerCost") -> "LayerCost":
        return LayerCost(
            self.forward + other.forward,
            self.update + other.update,
            self.backward + other.backward,
            self.inputs + other.inputs,
            self.weights + other.weights,
            self.optimizer + other.optimizer,
        )

    def __mul__(self, by: float) -> "LayerCost":
        return LayerCost(
            self.forward * by,
            self.update * by,
            self.backward * by,
            self.inputs * by,
            self.weights * by,
            self.optimizer * by,
        )


ZERO = LayerCost(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def total(costs: Iterable[LayerCost]) -> LayerCost:
    """Return what several layers cost together."""
    return sum(costs, ZERO)


@dataclass(frozen=True)
class Costs:
    """All layers and the head (whose `update` is its forward, loss and backward pass together).

    samples: of the microbatch that they were measured with.
    """

    samples: int
    layers: tuple[LayerCost, ...]
    head: LayerCost

    def scaled(self, samples: int) -> "Costs":
        """Return the costs of another microbatch, in proportion to its number of samples."""
        by = samples / self.samples
        return Costs(samples, tuple(_scaled(c, by) for c in self.layers), _scaled(self.head, by))


def _scaled(cost: LayerCost, by: float) -> LayerCost:
    return replace(cost * by, optimizer=cost.optimizer)


def mean_costs(found: Sequence[Costs]) -> Costs:
    """Return the mean of several measurements of one model."""
    share = 1 / len(found)
    layers = zip(*(costs.layers for costs in found), strict=True)
    return Costs(
        found[0].samples,
        tuple(total(of_layer) * share for of_layer in layers),
        total(costs.head for costs in found) * share,
    )
