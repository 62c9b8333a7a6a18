"""Predicts the step of any side of a comparison, from measured layer costs and a link."""

from dfa_core import partition
from dfa_speedup.peers import DATA_PARALLEL, ERRORCAST, PIPELINES, stage_ranges
from dfa_speedup.simulation.costs import Costs, total
from dfa_speedup.simulation.simulator import (
    Link,
    Sizes,
    data_parallel_step,
    errorcast_step,
    pipeline_step,
)
from dfa_speedup.workload import Configuration, Workload


def predicted_step(
    workload: Workload, costs: Costs, configuration: Configuration, workers: int, link: Link
) -> float | None:
    """Return the seconds of a step, or None for a side that the simulator does not know.

    costs: of any microbatch; they are scaled to this configuration's.
    """
    m, name = configuration.microbatches, configuration.schedule
    samples = workload.batch_size // m
    of_layers = costs.scaled(samples)
    between, error = workload.profile.between, workload.error_bytes
    if name == ERRORCAST:
        ranges = partition(workload.costs, workers)
        blocks = [total(of_layers.layers[a:b]) for a, b in ranges]
        sizes = Sizes(max(between[b].message.bytes for _, b in ranges), error)
        return errorcast_step(
            blocks, of_layers.head, samples, m, sizes, link, workload.rule.staleness
        )
    if name in PIPELINES:
        parts = [*of_layers.layers, of_layers.head]
        ranges = stage_ranges(workload, workers * PIPELINES[name].stages_a_worker)
        stages = [total(parts[a:b]) for a, b in ranges]
        hop = max(between[b].bytes for _, b in ranges[:-1])
        return pipeline_step(name, stages, workers, samples, m, hop, link)
    if name == DATA_PARALLEL and m == 1:
        share = workload.batch_size // workers
        return data_parallel_step(costs, workers, share, 4 * workload.profile.parameters, link)
    return None
