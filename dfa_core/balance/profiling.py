"""Measures a model one layer at a time: the shapes between layers, and the cost of each layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from dfa_core.activations import Activations, ActivationSpec, TensorSpec, detached
from dfa_core.balance.counting import head_flops, layer_flops
from dfa_core.balance.timing import LayerSeconds, error_of, time_head, time_layer
from dfa_core.balance.trial import Trial, one_by_one, try_out
from dfa_core.block.block import learns_by
from dfa_core.errors import JobError, reason
from dfa_core.layer import Layer
from dfa_core.loss import Loss, WeightedLoss, settled
from dfa_core.model import Model
from dfa_core.rule import LearningRule

LayerKind = tuple[str, tuple[tuple[tuple[int, ...], bool], ...], ActivationSpec]


@dataclass(frozen=True)
class LayerProfile:
    """One layer: output features, parameters, and what it costs per microbatch.

    seconds: of forward and update, and forward_seconds of them: of the fastest layer of its kind
        (same modules, shapes and input).
    flops: floating-point operations of both (counting.py).
    trained: number of parameters that are trained.
    matrices: number of entries of its feedback matrices, if training changes them.
    """

    index: int
    label: str
    features: int
    parameters: int
    seconds: float
    forward_seconds: float
    flops: int = 0
    trained: int = 0
    matrices: int = 0

    @classmethod
    def of(
        cls, layer: Layer, output: ActivationSpec, seconds: LayerSeconds, flops: int = 0
    ) -> "LayerProfile":
        """Return the profile of a layer, given its output's spec, its seconds and operations."""
        parameters = sum(p.numel() for p in layer.module.parameters())
        trained = sum(p.numel() for p in layer.weights())
        matrices = sum(p.numel() for p in layer.parameters.values()) - trained
        features, each = prod(output.shape), (seconds.total, seconds.forward)
        return cls(layer.index, layer.label, features, parameters, *each, flops, trained, matrices)


@dataclass(frozen=True)
class ModelProfile:
    """All layers, the tensors between them, the global error, and the head.

    samples: of the microbatch that was measured.
    between[i] enters layer i; the last one enters the head.
    target, output: of a sample: what the loss takes, and what the head gives.
    head_label: names the head in messages. head_seconds, head_flops: per microbatch.
    head_trained: how many of its parameters are trained.
    loss: with the weight of its mean, as the samples show it.
    learns: whether any layer does, or must hear of batches that are to change nothing.
    """

    samples: int
    layers: tuple[LayerProfile, ...]
    between: tuple[ActivationSpec, ...]
    error: TensorSpec
    target: TensorSpec
    output: TensorSpec
    head_label: str
    head_parameters: int
    head_seconds: float
    loss: WeightedLoss
    learns: bool = True
    head_flops: int = 0
    head_trained: int = 0

    @property
    def flops(self) -> int:
        """Return the floating-point operations of a microbatch."""
        return sum(layer.flops for layer in self.layers) + self.head_flops

    def without_tangents(self, rule: LearningRule) -> "ModelProfile":
        """Return the profile where no tangents travel; rule: by which it was measured."""
        if not rule.sends_tangents:
            return self
        first, *others = self.between
        halved = [
            replace(each, tensors=each.tensors[: max(1, len(each.tensors) // 2)]) for each in others
        ]
        error = replace(self.error, shape=self.error.shape[:-1])
        return replace(self, between=(first, *halved), error=error)

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all layers and the head."""
        return sum(layer.parameters for layer in self.layers) + self.head_parameters


def profile(
    model: Model,
    loss: Loss,
    rule: LearningRule,
    x: Tensor,
    target: Tensor,
    parts: Sequence[Tensor] = (),
    trials: Sequence[Trial] = (),
) -> ModelProfile:
    """Run one microbatch through every layer, with one layer in memory at a time.

    x, target: one microbatch of real data, on the device to measure on.
    parts: the targets of all microbatches of the batch, to find the weight of the loss's mean; by
        default, of this one.
    trials: samples of other parts of the data, on the same device, that run through the layers too.

    Raises JobError when a layer, the head, the feedback or the samples of a trial do not fit.
    """
    measured = Trial("training", x, target)
    # before that, in evaluation mode: what the loss weighs does not depend on the draws of training
    evaluated = Trial("training", x, target, trained_on=measured.form)
    head = try_out(model, loss, rule, [evaluated, measured, *trials], x.device)
    between = measured.between
    head.loss = settled(loss, evaluated.output.to(x.device), parts or [target])
    error = error_of(head, measured.h, target)
    head_seconds = time_head(head, measured.h, target)
    layers, kinds, learns = [], [], rule.method == "bp" or rule.skip_non_finite
    h: Activations = x
    fastest: dict[LayerKind, LayerSeconds] = {}
    flops: dict[LayerKind, int] = {}
    for layer in one_by_one(model, rule, x.device):
        learns = learns or layer.learns(learns_by(rule.method))
        kind = _kind(layer, between[layer.index])
        before, h = h, detached(layer.forward(detached(h), 0, 0))
        seconds = _seconds(layer, before, error)
        fastest[kind] = min(seconds, fastest.get(kind, seconds), key=lambda s: s.total)
        if kind not in flops:
            flops[kind] = layer_flops(layer, before, error)
        kinds.append(kind)
        output = between[layer.index + 1]
        layers.append(LayerProfile.of(layer, output, seconds, flops[kind]))
    return ModelProfile(
        samples=len(x),
        layers=tuple(
            replace(layer, seconds=fastest[kind].total, forward_seconds=fastest[kind].forward)
            for layer, kind in zip(layers, kinds, strict=True)
        ),
        between=tuple(between),
        error=TensorSpec.of(error),
        target=TensorSpec.of(target),
        output=TensorSpec.of(evaluated.output),
        head_label=head.label,
        head_parameters=sum(p.numel() for p in head.module.parameters()),
        head_seconds=head_seconds,
        loss=head.loss,
        learns=learns,
        head_flops=head_flops(head, measured.h, target),
        head_trained=sum(p.numel() for p in head.parameters.values()),
    )


def _seconds(layer: Layer, x: Activations, error: Tensor) -> LayerSeconds:
    try:
        return time_layer(layer, x, error)
    except JobError:
        raise
    except Exception as failed:
        raise JobError(
            f"the gradients of {layer.label} cannot be computed: {reason(failed)}"
        ) from failed


def _kind(layer: Layer, before: ActivationSpec) -> LayerKind:
    """Return what layers of equal cost have in common.

    Equal layers must get equal costs: otherwise a machine whose speed drifts during the measurement
    would cut a model of equal layers into uneven blocks.
    """
    weights = tuple((tuple(p.shape), p.requires_grad) for p in layer.module.parameters())
    return str(layer.module), weights, before
