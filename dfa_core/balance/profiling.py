"""Measures a model one layer at a time: the shapes between layers, and what each layer costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from time import perf_counter

import torch
from torch import Tensor

from dfa_core.activations import Activations, ActivationSpec, TensorSpec, detached
from dfa_core.block import Block
from dfa_core.head import Head, Loss
from dfa_core.layer import Layer
from dfa_core.model import Model
from dfa_core.rule import LearningRule

_REPEATS = 3
LayerKind = tuple[str, tuple[tuple[int, ...], ...], ActivationSpec]


@dataclass(frozen=True)
class LayerProfile:
    """One layer: its output features, parameters, and seconds a microbatch (forward + update).

    seconds: of the fastest layer of its kind (same modules, shapes and input).
    """

    index: int
    label: str
    features: int
    parameters: int
    seconds: float


@dataclass(frozen=True)
class ModelProfile:
    """All layers, the tensors between them, the global error, and the head.

    between[i] is what enters layer i; the last one enters the head. head_seconds: of a microbatch.
    """

    layers: tuple[LayerProfile, ...]
    between: tuple[ActivationSpec, ...]
    error: TensorSpec
    head_parameters: int
    head_seconds: float

    @property
    def parameters(self) -> int:
        """Return the parameters of all layers and the head."""
        return sum(layer.parameters for layer in self.layers) + self.head_parameters


def profile(
    model: Model, loss: Loss, rule: LearningRule, x: Tensor, target: Tensor
) -> ModelProfile:
    """Run one microbatch through every layer, holding one layer at a time.

    x, target: one microbatch of real data, on the device to measure on.

    Raises JobError when a layer, the head or the feedback does not fit.
    """
    between = [ActivationSpec.of(x)]
    h: Activations = x
    for layer in _one_by_one(model, rule, x.device):
        h = detached(layer.forward(detached(h), 0, 0))
        between.append(ActivationSpec.of(h, narrow=rule.narrow))
    head = Head(model, loss, rule)
    head.to(x.device)
    _, error = head.error(h, target, 0, 0)
    head_seconds = _fastest(lambda: head.error(h, target, 0, 0))
    layers, kinds, h = [], [], x
    fastest: dict[LayerKind, float] = {}
    for layer in _one_by_one(model, rule, x.device):
        kinds.append(_kind(layer, between[layer.index]))
        seconds, h = _cost(layer, h, error)
        fastest[kinds[-1]] = min(seconds, fastest.get(kinds[-1], seconds))
        parameters = sum(p.numel() for p in layer.module.parameters())
        features = prod(between[layer.index + 1].shape)
        layers.append(LayerProfile(layer.index, layer.label, features, parameters, seconds))
    return ModelProfile(
        layers=tuple(
            replace(layer, seconds=fastest[kind]) for layer, kind in zip(layers, kinds, strict=True)
        ),
        between=tuple(between),
        error=TensorSpec.of(error),
        head_parameters=sum(p.numel() for p in head.module.parameters()),
        head_seconds=head_seconds,
    )


def _kind(layer: Layer, before: ActivationSpec) -> LayerKind:
    """Return what layers of equal cost have in common.

    Equal layers must come out equal: a machine whose speed drifts while they are measured would
    else cut a model of them into uneven blocks.
    """
    shapes = tuple(tuple(p.shape) for p in layer.module.parameters())
    return str(layer.module), shapes, before


def _one_by_one(model: Model, rule: LearningRule, device: torch.device) -> Iterator[Layer]:
    for index in range(len(model.layers)):
        layer = Layer(index, model.build_layer(index, rule.seed), rule)
        layer.to(device)
        yield layer


def _cost(layer: Layer, x: Activations, error: Tensor) -> tuple[float, Activations]:
    block = Block([layer])
    h = block.forward(x, 0, 0)
    block.update(error, 0, 0)  # draws the feedback matrix, outside the measurement

    def once() -> None:
        block.forward(x, 0, 0)
        block.update(error, 0, 0)

    return _fastest(once), h


def _fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few runs: the others measured other work too."""
    seconds = []
    for _ in range(_REPEATS):
        start = perf_counter()
        work()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        seconds.append(perf_counter() - start)
    return min(seconds)
