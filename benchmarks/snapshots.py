"""What snapshots cost: `python -m benchmarks.snapshots`.

One pipeline takes a snapshot every 20 steps and runs in segments of 10, so that segments with and
without a snapshot alternate: the cost per step is half the difference of two neighbours, relative
to the one without. With larger batches the share is smaller, because a snapshot costs the same for
any batch.
"""

import argparse
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import add_rounds, quartiles
from benchmarks.tanh_pipeline import SIZES, Coordinator, Size, ray_of

EVERY = 20


def measure(size: Size, optimizer: str, rounds: int) -> tuple[list[float], float]:
    """Return the cost of a step in each round, and a step's median seconds without a snapshot."""
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
    add_rounds(parser, 15, "how often the segments take turns")
    rounds = parser.parse_args().rounds
    table = Table(title=f"a snapshot every {EVERY} steps; 8 tanh layers, 2 blocks; medians")
    columns = ("width", "batch", "optimizer", "state, MB a block", "step, ms")
    for name in (*columns, "cost of a step, quartiles"):
        table.add_column(name, justify="right")
    with ray_of(workers=2):
        for size in (Size(128, 64, 4), SIZES[0]):
            for optimizer, copies in (("sgd", 1), ("adam", 3)):
                costs, step_s = measure(size, optimizer, rounds)
                mb = 4e-6 * copies * size.layers / size.blocks * size.width * (size.width + 1)
                row = (size.width, size.batch, optimizer, f"{mb:.1f}", f"{1e3 * step_s:.1f}")
                table.add_row(*map(str, row), quartiles(costs, ".2%"))
    Console().print(table)


if __name__ == "__main__":
    main()
