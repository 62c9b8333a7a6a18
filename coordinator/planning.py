"""Measures a job's layers here and predicts its step elsewhere."""

import re
from collections.abc import Sequence
from math import prod
from typing import Any

from coordinator.bench import OneBatch, open_feed
from coordinator.resolve import Job
from coordinator.spec import whole_numbers
from dfa_core import Activations, FlowSpec, Head, JobError, Layer, ModelProfile, SampleSpec
from dfa_core.activations import detached
from dfa_core.optimizer import state_per_weight
from dfa_core.profiling import LayerProfile
from dfa_speedup.case import Case
from dfa_speedup.costs import Costs, head_cost, layer_cost
from dfa_speedup.planning import Planned, Planner
from dfa_speedup.simulator import Link
from dfa_tasks.source import as_source

_SAMPLES = 128  # of the microbatch that layers are measured with
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_BITS = {"b/s": 1.0, "kb/s": 1e3, "mb/s": 1e6, "gb/s": 1e9, "tb/s": 1e12}


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
    keys, between = [], [FlowSpec.of(x)]
    h: Activations = x
    for index, factory in enumerate(model.layers):
        key = (repr(factory), between[-1])  # equal partials read alike; a lambda is its own
        if key not in kinds:
            layer = Layer(index, model.build_layer(index, spec.seed), rule)
            kinds[key] = (layer, h, detached(layer.forward(h, 0, 0)))
        h = kinds[key][2]
        keys.append(key)
        between.append(FlowSpec.of(h, narrow=rule.narrow))
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
        layers, tuple(between), SampleSpec.of(error), weights, costs.head.update
    )
    batches = _open(OneBatch(x, target), len(x))
    case = Case(model, loss, rule, batches, spec.batch_size, measured)
    return Planner(case, costs, link, state_per_weight(rule.optimizer))


def _open(source: OneBatch, batch_size: int) -> Any:
    return lambda microbatches: open_feed(source, batch_size, microbatches)


def doubling(name: str, text: str) -> list[int]:
    """Read `1,2,4,...,64`: the dots go on doubling. Raises JobError when it is no such list."""
    before, dots, after = text.partition("...")
    if not dots:
        return whole_numbers(name, text)
    found = whole_numbers(name, before.strip(" ,"))
    last = max(whole_numbers(name, after.strip(" ,")))
    while found[-1] * 2 < last:
        found.append(found[-1] * 2)
    return sorted({*found, last})


def bits_per_second(name: str, text: str) -> float:
    """Read `100Gb/s`. Raises JobError for anything else."""
    return _quantity(name, text, _BITS, "100Gb/s")


def seconds(name: str, text: str) -> float:
    """Read `5us`. Raises JobError for anything else."""
    return _quantity(name, text, _SECONDS, "5us")


def _quantity(name: str, text: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*([a-zA-Z/]+)\s*", text)
    unit = units.get(match[2].lower()) if match else None
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if unit is None or value <= 0:
        raise JobError(f"{name}: '{text}' must be a number and a unit, such as {example}")
    return value * unit
