"""Measures what each layer and the head cost, also in the schedules of backpropagation."""

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from dfa_core import Activations, Block, Head, Layer
from dfa_core.activations import detached, tensors
from dfa_core.balance.timing import REPEATS, error_of, fastest, seconds_of, time_head, time_layer
from dfa_core.seeding import restored_once
from dfa_speedup.simulation.costs import Costs, LayerCost, total


def measure_costs(layers: Sequence[Layer], head: Head, x: Tensor, target: Tensor) -> Costs:
    """Measure one microbatch through every layer alone, the head, and all layers together.

    The time of all layers together is divided among them in proportion to their times alone. For a
    layer that runs again and again finds its own data in the caches; one that waits for its turn
    does not.
    """
    inputs: list[Activations] = []
    h: Activations = x
    for layer in layers:
        inputs.append(h)
        h = detached(layer.forward(h, 0, 0))
    error = error_of(head, h, target)
    alone = [layer_cost(layer, h, error) for layer, h in zip(layers, inputs, strict=True)]
    shared = _in_proportion(alone, _together(layers, x, error))
    return Costs(len(x), tuple(shared), head_cost(head, h, target))


def layer_cost(layer: Layer, x: Activations, error: Tensor) -> LayerCost:
    """Measure a layer on one microbatch, given its input and the global error."""
    seconds = time_layer(layer, x, error)
    parameters = layer.weights()
    leaves = tuple(t.clone().requires_grad_(t.is_floating_point()) for t in tensors(x))
    inner = [leaf for leaf in leaves if leaf.requires_grad]

    def forward() -> list[Tensor]:
        return [t for t in tensors(layer.forward(leaves, 0, 0)) if t.requires_grad]

    gradient = [torch.randn_like(tensor) for tensor in forward()]

    def backward(h: Sequence[Tensor]) -> None:
        torch.autograd.backward(h, gradient)

    def backward_to(targets: Sequence[Tensor], h: Sequence[Tensor]) -> None:
        if targets:
            torch.autograd.grad(h, targets, gradient, retain_graph=True, allow_unused=True)

    cost = LayerCost(
        forward=seconds.forward,
        update=seconds.update,
        backward=fastest(forward, backward),
        inputs=fastest(forward, lambda h: backward_to(inner, h)),
        weights=fastest(forward, lambda h: backward_to(parameters, h)),
        optimizer=fastest(lambda: backward(forward()), lambda _: layer.apply_gradients(0)),
    )
    layer.module.zero_grad(set_to_none=True)
    return cost


def head_cost(head: Head, h: Activations, target: Tensor) -> LayerCost:
    """Measure the head and its loss on one microbatch."""
    seconds = time_head(head, h, target)
    optimizer = seconds_of(lambda: head.apply_gradients(0))
    third = seconds / 3  # forward, inputs and weights are three products of one size
    return LayerCost(third, seconds, 2 * third, third, third, optimizer)


@restored_once()
def _together(layers: Sequence[Layer], x: Tensor, error: Tensor) -> LayerCost:
    """Measure a microbatch through all layers; its backward pass is not split.

    Returns medians, not the fastest run, because they represent an ordinary step.
    """
    block, runs = Block(layers), []
    for _ in range(1 + REPEATS):
        for _ in range(2):  # a step's first microbatch makes the gradients that others add to
            forward = seconds_of(lambda: block.forward(x, 0, 0))
            update = seconds_of(lambda: block.update(error, 0, 0))
        backward = _backward_of_all(layers, x)
        optimizer = seconds_of(lambda: block.step(0))
        runs.append((forward, update, backward, optimizer))
    forward, update, backward, optimizer = map(median, zip(*runs[1:], strict=True))
    return LayerCost(forward, update, backward, 0.0, 0.0, optimizer)


def _backward_of_all(layers: Sequence[Layer], h: Activations) -> float:
    for layer in layers:
        h = layer.forward(h, 0, 0)
    outputs = [one for one in tensors(h) if one.requires_grad]
    gradients = [torch.randn_like(one) for one in outputs]
    return seconds_of(lambda: torch.autograd.backward(outputs, gradients)) if outputs else 0.0


def _in_proportion(alone: Sequence[LayerCost], together: LayerCost) -> list[LayerCost]:
    """Return the costs of layers alone, each kind of work scaled to what it took together."""
    sums = total(alone)
    forward = _ratio(together.forward, sums.forward)
    update = _ratio(together.update, sums.update)
    backward = _ratio(together.backward, sums.backward)
    optimizer = _ratio(together.optimizer, sums.optimizer)
    return [
        LayerCost(
            cost.forward * forward,
            cost.update * update,
            cost.backward * backward,
            cost.inputs * backward,
            cost.weights * backward,
            cost.optimizer * optimizer,
        )
        for cost in alone
    ]


def _ratio(together: float, alone: float) -> float:
    return together / alone if together and alone else 1.0
