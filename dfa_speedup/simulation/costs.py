"""What each layer costs, measured: the numbers that the simulator starts from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from dfa_core import Activations, Block, Head, Layer
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
    """Measure one microbatch through every layer and the head; medians of a few runs.

    Then through all layers at once, which shares the time out as the layers alone say: a layer that
    is measured again and again finds other things in the caches than one that waits for its turn.
    """
    found, samples = [], len(x)
    steps = []
    h: Activations = x
    for layer in layers:
        before, h = h, detached(layer.forward(h, 0, 0))
        steps.append((layer, before))
    _, error = head.error(h, target, 0, 0)
    for layer, before in steps:
        found.append(layer_cost(layer, before, error))
    shared = _shared_out(found, _together(layers, x, error))
    return Costs(samples, tuple(shared), head_cost(head, h, target))


def _together(layers: Sequence[Layer], x: Tensor, error: Tensor) -> LayerCost:
    """Measure a microbatch through all layers; its backward pass is not split."""
    block, found = Block(layers), []
    for _ in range(_REPEATS + 1):
        for _ in range(2):  # a step's first microbatch makes the gradients that others add to
            forward = _timed(lambda: block.forward(x, 0, 0))
            update = _timed(lambda: block.update(error, 0, 0))
        backward = _backward_of_all(layers, x)
        optimizer = _timed(lambda: block.step(0))
        found.append((forward, update, backward, optimizer))
    forward, update, backward, optimizer = map(median, zip(*found[1:], strict=True))
    return LayerCost(forward, update, backward, 0.0, 0.0, optimizer)


def _backward_of_all(layers: Sequence[Layer], h: Activations) -> float:
    for layer in layers:
        h = layer.forward(h, 0, 0)
    outputs = [one for one in tensors(h) if one.requires_grad]
    gradients = [torch.randn_like(one) for one in outputs]
    return _timed(lambda: torch.autograd.backward(outputs, gradients)) if outputs else 0.0


def _shared_out(layers: Sequence[LayerCost], together: LayerCost) -> list[LayerCost]:
    """Return the costs of layers alone, each kind of work scaled to what it took together."""
    alone = total(layers)
    forward = _ratio(together.forward, alone.forward)
    update = _ratio(together.update, alone.update)
    backward = _ratio(together.backward, alone.backward)
    optimizer = _ratio(together.optimizer, alone.optimizer)
    return [
        LayerCost(
            cost.forward * forward,
            cost.update * update,
            cost.backward * backward,
            cost.inputs * backward,
            cost.weights * backward,
            cost.optimizer * optimizer,
        )
        for cost in layers
    ]


def _ratio(whole: float, parts: float) -> float:
    return whole / parts if whole and parts else 1.0


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
