"""What snapshots cost: `python -m benchmarks.snapshots`.

One pipeline takes a snapshot every 20 steps and runs in segments of 10, so that segments with and
without one alternate: the cost of a step is half of what two neighbours differ by. Larger batches
cost less, for a snapshot's cost is the weights' alone.
"""

import argparse
from statistics import median, quantiles
from typing import Any

import ray
from ray import cloudpickle
from rich.console import Console
from rich.table import Table

from benchmarks import step
from benchmarks.step import SIZES, Coordinator, Size
from coordinator.launch.ray_session import ray_for

EVERY = 20


def measure(size: Size, optimizer: str, rounds: int) -> tuple[list[float], float]:
    """Return the cost of a step in each round, and the median seconds of a step without."""
    coordinator: Any = ray.remote(num_cpus=0)(Coordinator).remote()
    ray.get(coordinator.start.remote(size, optimizer, EVERY))
    costs, without = [], []
    for _ in range(rounds):
        with_one = ray.get(coordinator.segment.remote(EVERY // 2))
        without.append(ray.get(coordinator.segment.remote(EVERY // 2)))
        costs.append((with_one - without[-1]) / (2 * without[-1]))
    ray.get(coordinator.stop.remote())
    ray.kill(coordinator)
    return costs, median(without) / (EVERY // 2)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="alternations of the two segments")
    rounds = parser.parse_args().rounds
    table = Table(title=f"a snapshot every {EVERY} steps; 8 tanh layers, 2 blocks; medians")
    columns = ("width", "batch", "optimizer", "state, MB a block", "step, ms")
    for name in (*columns, "cost of a step, quartiles"):
        table.add_column(name, justify="right")
    cloudpickle.register_pickle_by_value(step)  # Ray's processes do not find this folder
    with ray_for(workers=2, cpus=1.0):
        for size in (Size(128, 64, 4), SIZES[0]):
            for optimizer, copies in (("sgd", 1), ("adam", 3)):
                costs, step_s = measure(size, optimizer, rounds)
                mb = 4e-6 * copies * size.layers / size.blocks * size.width * (size.width + 1)
                row = (size.width, size.batch, optimizer, f"{mb:.1f}", f"{1e3 * step_s:.1f}")
                low, middle, high = quantiles(costs, n=4)
                table.add_row(*map(str, row), f"{middle:.2%} ({low:.2%} to {high:.2%})")
    Console().print(table)


if __name__ == "__main__":
    main()
