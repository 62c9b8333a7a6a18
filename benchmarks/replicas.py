"""Replicas and blocks on this machine, and what the simulator predicts.

`python -m benchmarks.replicas` trains the same network and batch on 1x2, 2x1, 2x2, 4x1 and 1x4
workers (blocks x replicas), in turn, a few steps each in a round. Before and after each round it
also measures the costs of the layers and the link, on as many workers as run at once; the step is
predicted from these. With more workers than cores the prediction is at least the time of all
computing and of all sums of gradients, spread over the cores.
"""

import os
from dataclasses import replace
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.rounds import rounds_parser
from benchmarks.tanh_pipeline import SIZES, Coordinator, Size, ray_of, training
from coordinator.planning.workload import measured_workload
from dfa_speedup.bench_workers import BenchWorkers
from dfa_speedup.simulation.costs import Costs, mean_costs, total
from dfa_speedup.simulation.link import Link, ordered_sum
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Workload
from workers.payload import PickledPayload
from workers.placement import WorkerResources

GRIDS = ((1, 2), (2, 1), (2, 2), (4, 1), (1, 4))  # blocks, replicas
_MICROBATCHES = 16  # of a batch: at least K + 1 in each replica of the first four


def workload_of(size: Size) -> Workload:
    """Return what costs are measured on."""
    model, rule, data = training(size)
    return measured_workload(model, nn.functional.cross_entropy, rule, data, size.microbatches)


def predicted(workload: Workload, costs: Costs, link: Link, size: Size) -> float:
    """Return the seconds of a step of this grid."""
    m, samples = size.microbatches, size.batch // size.microbatches
    predictor = Predictor(workload, costs, link)
    simulated = predictor.errorcast(Shape(size.blocks, size.replicas), samples, m // size.replicas)
    cores = os.cpu_count() or 1
    if size.blocks * size.replicas <= cores:
        return simulated
    scaled = costs.scaled(samples)
    layers = total(scaled.layers)
    summing = sum(
        ordered_sum(size.replicas, 4 * p.parameters, link) for p in workload.profile.layers
    )
    computing = m * (layers.forward + layers.update + scaled.head.update)
    return max(simulated, (computing + size.replicas * (layers.optimizer + summing)) / cores)


def main() -> None:
    """Measure and print a table."""
    arguments = rounds_parser(__doc__, 6, 5).parse_args()
    base = replace(SIZES[1], microbatches=_MICROBATCHES)
    sizes = [replace(base, blocks=k, replicas=r) for k, r in GRIDS]
    at_once = min(os.cpu_count() or 1, 4)
    measured: list[list[float]] = [[] for _ in sizes]
    expected: list[list[float]] = [[] for _ in sizes]
    with ray_of(workers=sum(k * r for k, r in GRIDS) + at_once):
        workload = workload_of(base)
        workers = BenchWorkers(PickledPayload.pack(workload), at_once, WorkerResources(), 60.0)
        sides: list[Any] = [ray.remote(num_cpus=0)(Coordinator).remote() for _ in sizes]
        ray.get([side.start.remote(size) for side, size in zip(sides, sizes, strict=True)])
        costs = [workers.costs(_MICROBATCHES)]
        for _ in range(arguments.rounds):
            for index, side in enumerate(sides):
                measured[index].append(median(ray.get(side.seconds.remote(arguments.steps))))
            costs.append(workers.costs(_MICROBATCHES))
            around, link = mean_costs(costs[-2:]), workers.link()
            for index, size in enumerate(sizes):
                expected[index].append(predicted(workload, around, link, size))
        ray.get([side.stop.remote() for side in sides])
        workers.stop()
    table = Table(
        title=f"8 tanh layers of {base.width}, batch {base.batch}, M {_MICROBATCHES}, "
        f"{os.cpu_count()} cores; medians"
    )
    for name in ("blocks x replicas", "samples/s", "step, ms", "predicted, ms", "predicted / step"):
        table.add_column(name, justify="right")
    for size, seconds, predictions in zip(sizes, measured, expected, strict=True):
        ratios = [p / s for p, s in zip(predictions, seconds, strict=True)]
        table.add_row(
            f"{size.blocks} x {size.replicas}",
            f"{size.batch / median(seconds):,.0f}",
            f"{1e3 * median(seconds):.1f}",
            f"{1e3 * median(predictions):.1f}",
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
