"""Measures a job's layers here and predicts its step elsewhere."""

from collections.abc import Sequence
from math import prod
from typing import Any

from coordinator.experiments.workload import OneBatch, open_prefetcher
from coordinator.job.resolve import Job
from dfa_core import Activations, ActivationSpec, Head, Layer, ModelProfile, TensorSpec
from dfa_core.activations import detached
from dfa_core.balance.profiling import LayerProfile
from dfa_core.optimizer import state_per_weight
from dfa_speedup.simulation.costs import Costs, head_cost, layer_cost
from dfa_speedup.simulation.planning import Planned, Planner
from dfa_speedup.simulation.simulator import Link
from dfa_speedup.workload import Workload
from dfa_tasks.source import as_source

_SAMPLES = 128  # of the microbatch that layers are measured with


def prediction(
    job: Job, blocks: Sequence[int], replicas: Sequence[int], link: Link
) -> list[tuple[int, int, Planned | str]]:
    """Return (K, R, prediction or why there is none) for every number of blocks and replicas."""
    planner = _planner(job, link)
    return [(k, r, planner.plan(k, r)) for k in blocks for r in replicas]


def _planner(job: Job, link: Link) -> Planner:
    """Measure every kind of layer once, however many of it the model has."""
    spec = job.spec
    source = as_source(job.task.splits().train, min(spec.batch_size, _SAMPLES), spec.seed)
    x, target = source.batch(0)
    rule = job.rule(source.steps_per_epoch)
    model, loss = job.model, job.task.loss
    kinds: dict[Any, tuple[Layer, Any, Any]] = {}  # what a layer is made of -> layer, input, output
    keys, between = [], [ActivationSpec.of(x)]
    h: Activations = x
    for index, factory in enumerate(model.layers):
        key = (repr(factory), between[-1])  # equal partials read alike; a lambda is its own
        if key not in kinds:
            layer = Layer(index, model.build_layer(index, spec.seed), rule)
            kinds[key] = (layer, h, detached(layer.forward(h, 0, 0)))
        h = kinds[key][2]
        keys.append(key)
        between.append(ActivationSpec.of(h, narrow=rule.narrow))
    head = Head(model, loss, rule)
    _, error = head.error(h, target, 0, 0)
    of_kind = {key: layer_cost(layer, before, error) for key, (layer, before, _) in kinds.items()}
    costs = Costs(len(x), tuple(of_kind[key] for key in keys), head_cost(head, h, target))
    layers = tuple(
        LayerProfile(
            index,
            kinds[key][0].label,
            prod(between[index + 1].shape),
            sum(p.numel() for p in kinds[key][0].parameters.values()),
            of_kind[key].forward + of_kind[key].update,
        )
        for index, key in enumerate(keys)
    )
    weights = sum(p.numel() for p in head.module.parameters())
    measured = ModelProfile(
        layers, tuple(between), TensorSpec.of(error), weights, costs.head.update
    )
    batches = _open(OneBatch(x, target), len(x))
    workload = Workload(model, loss, rule, batches, spec.batch_size, measured)
    return Planner(workload, costs, link, state_per_weight(rule.optimizer))


def _open(source: OneBatch, batch_size: int) -> Any:
    return lambda microbatches: open_prefetcher(source, batch_size, microbatches)
