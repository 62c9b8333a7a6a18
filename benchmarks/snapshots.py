"""What snapshots cost: `python -m benchmarks.snapshots`.

One pipeline takes a snapshot every 20 steps and runs in segments of 10, so that segments with and
without one alternate: the cost of a step is half of what they differ by, in medians.
"""

import argparse
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from benchmarks.step import SIZES, Coordinator, Size
from coordinator.embedded_ray import ray_for

EVERY = 20


def measure(size: Size, optimizer: str, rounds: int) -> tuple[float, float]:
    """Return the median seconds of a segment with a snapshot at its start, and of one without."""
    coordinator: Any = ray.remote(num_cpus=0)(Coordinator).remote()
    ray.get(coordinator.start.remote(size, optimizer, EVERY))
    with_one, without = [], []
    for _ in range(rounds):
        with_one.append(ray.get(coordinator.segment.remote(EVERY // 2)))
        without.append(ray.get(coordinator.segment.remote(EVERY // 2)))
    ray.get(coordinator.stop.remote())
    ray.kill(coordinator)
    return median(with_one), median(without)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="alternations of the two segments")
    rounds = parser.parse_args().rounds
    table = Table(title=f"a snapshot every {EVERY} steps; 8 tanh layers, 2 blocks; medians")
    for name in ("width", "batch", "optimizer", "state, MB a block", "step, ms", "cost of a step"):
        table.add_column(name, justify="right")
    with ray_for(workers=2, cpus=1.0):
        for size in (Size(128, 64, 4), *SIZES):
            for optimizer, copies in (("sgd", 1), ("adam", 3)):
                with_one, without = measure(size, optimizer, rounds)
                mb = 4e-6 * copies * size.layers / size.blocks * size.width * (size.width + 1)
                cost = (with_one - without) / (2 * without)
                step_ms = 1e3 * without / (EVERY // 2)
                row = (size.width, size.batch, optimizer, f"{mb:.1f}", f"{step_ms:.1f}")
                table.add_row(*map(str, row), f"{cost:.2%}")
    Console().print(table)


if __name__ == "__main__":
    main()
