"""What each layer costs, measured: the numbers that the simulator starts from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from dfa_core import Activations, Head, Layer
from dfa_core.activations import detached, tensors

T = TypeVar("T")

_REPEATS = 3


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

    # written out: dataclasses.astuple copies deeply, and a plan adds up hundreds of thousands
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
        """Return the costs of another microbatch, taken as proportional to its samples."""
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


def measure_costs(layers: Sequence[Layer], head: Head, x: Tensor, target: Tensor) -> Costs:
    """Measure one microbatch through every layer and the head; medians of a few runs."""
    found, samples = [], len(x)
    steps = []
    h: Activations = x
    for layer in layers:
        before, h = h, detached(layer.forward(h, 0, 0))
        steps.append((layer, before))
    _, error = head.error(h, target, 0, 0)
    for layer, before in steps:
        found.append(layer_cost(layer, before, error))
    return Costs(samples, tuple(found), head_cost(head, h, target))


def layer_cost(layer: Layer, x: Activations, error: Tensor) -> LayerCost:
    """Measure a layer on one microbatch, given its input and the global error."""
    parameters = list(layer.parameters.values())
    leaves = tuple(t.clone().requires_grad_(t.is_floating_point()) for t in tensors(x))
    inner = [leaf for leaf in leaves if leaf.requires_grad]

    def forward() -> list[Tensor]:
        return [t for t in tensors(layer.forward(leaves, 0, 0)) if t.requires_grad]

    gradient = [torch.randn_like(tensor) for tensor in forward()]

    def local() -> Activations:
        return layer.forward(detached(x), 0, 0)

    def update(h: Activations) -> None:
        torch.autograd.backward(*layer.learning_signals(error, h))

    def inputs(h: Sequence[Tensor]) -> None:
        if inner:
            torch.autograd.grad(h, inner, gradient, retain_graph=True, allow_unused=True)

    def weights(h: Sequence[Tensor]) -> None:
        if parameters:
            torch.autograd.grad(h, parameters, gradient, retain_graph=True, allow_unused=True)

    def apply() -> float:
        torch.autograd.backward(forward(), gradient)
        start = perf_counter()
        layer.apply_gradients(0)
        return perf_counter() - start

    cost = LayerCost(
        forward=median(_timed(forward) for _ in range(_REPEATS)),
        update=_behind(local, update),
        backward=_behind(forward, lambda h: torch.autograd.backward(h, gradient)),
        inputs=_behind(forward, inputs),
        weights=_behind(forward, weights),
        optimizer=median(apply() for _ in range(_REPEATS)),
    )
    layer.module.zero_grad(set_to_none=True)
    return cost


def head_cost(head: Head, h: Activations, target: Tensor) -> LayerCost:
    """Measure the head and its loss on one microbatch."""
    seconds = median(_timed(lambda: head.error(h, target, 0, 0)) for _ in range(_REPEATS))
    start = perf_counter()
    head.apply_gradients(0)
    optimizer = perf_counter() - start
    third = seconds / 3  # forward, inputs and weights are three products of one size
    return LayerCost(third, seconds, 2 * third, third, third, optimizer)


def _behind(before: Callable[[], T], work: Callable[[T], object]) -> float:
    """Return the median seconds of work on a fresh graph each time, the first left out."""
    seconds = []
    for _ in range(_REPEATS + 1):
        h = before()
        seconds.append(_timed(lambda h=h: work(h)))  # type: ignore[misc]
    return median(seconds[1:])


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
