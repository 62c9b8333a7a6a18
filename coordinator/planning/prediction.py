"""Measures a job's layers here and predicts its step elsewhere."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from coordinator.job.resolve import Job
from coordinator.planning.workload import OneBatch
from dfa_core import (
    Activations,
    ActivationSpec,
    Head,
    JobError,
    Layer,
    LearningRule,
    Model,
    ModelProfile,
    TensorSpec,
)
from dfa_core.activations import detached
from dfa_core.balance.profiling import LayerProfile
from dfa_core.balance.timing import LayerSeconds, error_of
from dfa_core.layer.tangents import without_tangents
from dfa_core.loss import weighted
from dfa_speedup.simulation.costs import Costs
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.measuring import head_cost, layer_cost
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.scaling import Prediction, predict_scaling, predict_workers
from dfa_speedup.workload import Workload
from dfa_tasks.source import as_source

_NEAR = Link(latency_s=100e-6, bytes_per_s=1.25e9)  # gloo between processes, or 10 Gb/s
_SAMPLES = 128  # of the microbatch that layers are measured with, at most
_NUMBERS = 4_000_000  # of the head's output for that microbatch, at most


@dataclass(frozen=True)
class _FirstOfItsKind:
    """A layer that represents all layers of its kind, with its input and its output."""

    layer: Layer
    x: Activations
    h: Activations


def predict(
    job: Job, blocks: Sequence[int], replicas: Sequence[int], link: Link
) -> list[tuple[str, Prediction | str]]:
    """Return (K and R, prediction or why there is none) for every number of blocks and replicas.

    Raises JobError when the parts of the job do not fit together.
    """
    predictor = _predictor(job, link)
    return [(f"K {k}, R {r}", predict_scaling(predictor, k, r)) for k in blocks for r in replicas]


def predict_fastest(
    job: Job, workers: Sequence[int], link: Link
) -> list[tuple[str, Prediction | str]]:
    """Return (N, prediction of the fastest shape or why there is none) for N workers.

    Raises JobError when the parts of the job do not fit together.
    """
    predictor = _predictor(job, link)
    return [(f"{n} workers", predict_workers(predictor, n)) for n in workers]


def fastest(
    job: Job, workers: int, one_pipeline: bool = False, microbatches: int | None = None
) -> Prediction:
    """Return the fastest shape of N workers on this machine, or on one like it.

    one_pipeline: of one replica, with the head in one of the workers.
    microbatches: of a batch, over all replicas; without a number, the best of all is taken.

    Raises JobError when there is none.
    """
    found = predict_workers(_predictor(job, _NEAR), workers, one_pipeline, microbatches)
    if isinstance(found, str):
        raise JobError(f"workers: {workers}: {found}")
    return found


def _predictor(job: Job, link: Link) -> Predictor:
    """Measure every kind of layer once, however many of it the model has."""
    settings, model = job.settings, job.model
    loss = weighted(job.task.weighted_loss)
    source = as_source(job.splits().train, min(settings.batch_size, _SAMPLES), settings.seed)
    rule = job.rule(source.steps_per_epoch)
    alone = replace(rule, staleness=0)  # so that a layer's graph ends at its own weights
    head, (x, target) = Head(model, loss, alone), source.batch(0)
    if not job.task.full_batch:
        few = _few(model, alone, head, x)
        x, target = x[:few], target[:few]
    kinds, firsts, between = _kinds(model, alone, x)
    h = firsts[kinds[-1]].h if kinds else x
    error = error_of(head, h, target)
    of_kind = {kind: layer_cost(first.layer, first.x, error) for kind, first in firsts.items()}
    if settings.resources.recompute:
        of_kind = {k: replace(c, update=c.update + c.forward) for k, c in of_kind.items()}
    costs = Costs(len(x), tuple(of_kind[kind] for kind in kinds), head_cost(head, h, target))
    layers = tuple(
        LayerProfile.of(
            firsts[kind].layer, output, LayerSeconds(of_kind[kind].forward, of_kind[kind].update)
        )
        for kind, output in zip(kinds, between[1:], strict=True)
    )
    measured = ModelProfile(
        samples=len(x),
        layers=tuple(replace(layer, index=index) for index, layer in enumerate(layers)),
        between=tuple(between),
        error=TensorSpec.of(error),
        target=TensorSpec.of(target),
        output=TensorSpec.of(head.evaluate(without_tangents(h, rule))),
        head_label=head.label,
        head_parameters=sum(p.numel() for p in head.module.parameters()),
        head_seconds=costs.head.update,
        head_trained=sum(p.numel() for p in head.parameters.values()),
        loss=loss,
    )
    batches = OneBatch(x, target).opener()
    uncut = job.task.full_batch
    workload = Workload(model, loss, rule, batches, settings.batch_size, measured, uncut)
    return Predictor(workload, costs, link)


def _few(model: Model, rule: LearningRule, head: Head, x: Tensor) -> int:
    """Return how many samples to measure with: fewer where the head's output is wide."""
    kinds, firsts, _ = _kinds(model, rule, x[:2])
    h = firsts[kinds[-1]].h if kinds else x[:2]
    output = head.evaluate(without_tangents(h, rule))
    return max(2, min(len(x), _NUMBERS * 2 // output.numel()))


def _kinds(
    model: Model, rule: LearningRule, x: Tensor
) -> tuple[list[Hashable], dict[Hashable, _FirstOfItsKind], list[ActivationSpec]]:
    """Return each layer's kind, the first layer of each kind, and the tensors between layers."""
    firsts: dict[Hashable, _FirstOfItsKind] = {}
    kinds: list[Hashable] = []
    between = [ActivationSpec.of(x)]
    h: Activations = x
    for index, factory in enumerate(model.layers):
        kind = (repr(factory), between[-1])  # equal partials read alike; a lambda is its own kind
        if kind not in firsts:
            layer = Layer(index, model.build_layer(index, rule.seed), rule)
            firsts[kind] = _FirstOfItsKind(layer, h, detached(layer.forward(h, 0, 0)))
        h = firsts[kind].h
        kinds.append(kind)
        between.append(ActivationSpec.of(h, narrow=rule.narrow))
    return kinds, firsts, between
