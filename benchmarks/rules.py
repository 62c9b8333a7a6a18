"""What it gains that a block need not wait for the error: `python -m benchmarks.rules`.

The same network on the same blocks, by dfa and by DRTP, whose broadcast is the target and so is
there before the batch is. The two run in turn, a few steps each; a ratio is the median of the
rounds' own. What DRTP costs in accuracy is in docs/results.md.
"""

import argparse
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

import ray
from ray import cloudpickle
from rich.console import Console
from rich.table import Table

from benchmarks import step
from benchmarks.step import SIZES, Coordinator, Size
from coordinator.launch.ray_session import ray_for


def measure(size: Size, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Return the median seconds of a step in each round, by dfa and by DRTP."""
    sides: list[Any] = [ray.remote(num_cpus=0)(Coordinator).remote() for _ in range(2)]
    for side, kind in zip(sides, ("random", "target"), strict=True):
        ray.get(side.start.remote(size, feedback=kind))
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, seconds in zip(sides, found, strict=True):
            seconds.append(median(ray.get(side.seconds.remote(steps))))
    for side in sides:
        ray.get(side.stop.remote())
        ray.kill(side)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="alternations of the two sides")
    parser.add_argument("--steps", type=int, default=6, help="steps of each side a round")
    arguments = parser.parse_args()
    table = Table(title="8 tanh layers of 1024, batch 512, 2 blocks; medians")
    for name in ("M", "dfa, ms a step", "drtp, ms a step", "dfa / drtp, quartiles"):
        table.add_column(name, justify="right")
    cloudpickle.register_pickle_by_value(step)  # Ray's processes do not find this folder
    with ray_for(workers=4, cpus=1.0):
        for microbatches in (1, 2, 4):
            size = replace(SIZES[0], microbatches=microbatches)
            dfa, drtp = measure(size, arguments.rounds, arguments.steps)
            ratios = [a / b for a, b in zip(dfa, drtp, strict=True)]
            low, middle, high = quantiles(ratios, n=4)
            table.add_row(
                str(microbatches),
                f"{1e3 * median(dfa):.1f}",
                f"{1e3 * median(drtp):.1f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
