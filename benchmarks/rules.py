"""What a step gains when no block waits for the error: `python -m benchmarks.rules`.

The same network trains on the same blocks by dfa and by DRTP. DRTP broadcasts the target, which is
known before the forward passes. The two run in turn, a few steps each; the ratio is the median of
the ratios of the rounds. docs/results/images.md says what DRTP costs in accuracy.
"""

from dataclasses import replace
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import quartiles, rounds_parser
from benchmarks.tanh_pipeline import SIZES, Coordinator, Size, ray_of


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
    arguments = rounds_parser(__doc__, 12, 6).parse_args()
    table = Table(title="8 tanh layers of 1024, batch 512, 2 blocks; medians")
    for name in ("M", "dfa, ms a step", "drtp, ms a step", "dfa / drtp, quartiles"):
        table.add_column(name, justify="right")
    with ray_of(workers=4):
        for microbatches in (1, 2, 4):
            size = replace(SIZES[0], microbatches=microbatches)
            dfa, drtp = measure(size, arguments.rounds, arguments.steps)
            ratios = [a / b for a, b in zip(dfa, drtp, strict=True)]
            table.add_row(
                str(microbatches),
                f"{1e3 * median(dfa):.1f}",
                f"{1e3 * median(drtp):.1f}",
                quartiles(ratios),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
