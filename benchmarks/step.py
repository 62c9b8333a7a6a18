"""How close a step is to its limit: `python -m benchmarks.step`.

For each size it prints the step time of the real pipeline (blocks and coordinator in Ray actors),
the busy share of each block, and (compute of the slower block alone) / (step). "Alone" has two
senses. "no messages": the same blocks compute at the same time and wait for nothing; the difference
to 1 is the cost of the pipeline. "idle machine": one block computes and nothing else runs; the
difference also contains what two busy cores take from each other. The sides alternate in short
rounds, because a machine's speed drifts: times are medians over all steps, and each ratio is the
median of the ratios of the rounds.
"""

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import ray
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import rounds_parser
from benchmarks.tanh_network import CLASSES
from benchmarks.tanh_pipeline import SIZES, Coordinator, Size, ray_of, training
from dfa_core import Block, Forward, Step, Update, block_actions, build_layers


class Alone:
    """One block that waits for nothing."""

    def start(self, size: Size, first: int, last: int) -> None:
        """Build the block."""
        torch.set_num_threads(1)
        model, self.rule, _ = training(size)
        self.size = size
        self.block = Block(build_layers(model, first, last, self.rule))
        samples = size.batch // size.microbatches
        self.inputs = [torch.randn(samples, size.width) for _ in range(size.microbatches)]
        self.errors = [torch.randn(samples, CLASSES) / size.batch for _ in self.inputs]
        self.seconds(2)

    def seconds(self, steps: int) -> list[float]:
        """Return the seconds of each step: forwards, updates and optimizer, as scheduled."""
        torch.set_num_threads(1)
        found = []
        for step in range(steps):
            start = perf_counter()
            for action in block_actions(self.size.blocks, self.size.microbatches, step, step + 1):
                match action:
                    case Forward(_, m):
                        self.block.forward(self.inputs[m], step, m)
                    case Update(_, m):
                        self.block.update(self.errors[m], step, m)
                    case Step():
                        self.block.step(step)
            found.append(perf_counter() - start)
        return found


@dataclass(frozen=True)
class Round:
    """Median seconds of one round: of a step, and of the slower block alone in two senses."""

    step: float
    no_messages: float
    idle_machine: float


def measure(size: Size, rounds: int, steps: int) -> tuple[list[Round], list[float]]:
    """Measure one size in alternating rounds; return them and the busy share of each block."""
    coordinator: Any = ray.remote(num_cpus=0)(Coordinator).remote()
    ranges = ray.get(coordinator.start.remote(size))
    alone: list[Any] = [ray.remote(num_cpus=0)(Alone).remote() for _ in ranges]
    ray.get([a.start.remote(size, *r) for a, r in zip(alone, ranges, strict=True)])
    found = []
    for _ in range(rounds):
        together = ray.get(coordinator.seconds.remote(steps))
        at_once = ray.get([block.seconds.remote(steps) for block in alone])
        one_by_one = [ray.get(block.seconds.remote(steps)) for block in alone]
        found.append(
            Round(median(together), max(map(median, at_once)), max(map(median, one_by_one)))
        )
    busy = ray.get(coordinator.busy.remote())
    ray.get(coordinator.stop.remote())
    for actor in (coordinator, *alone):
        ray.kill(actor)
    return found, busy


def row(size: Size, rounds: list[Round], busy: list[float]) -> list[str]:
    """Return the cells of one size in the table."""
    return [
        str(size.width),
        str(size.batch),
        str(size.microbatches),
        f"{1e3 * median(r.step for r in rounds):.1f}",
        " ".join(f"{share:.1%}" for share in busy),
        f"{1e3 * median(r.no_messages for r in rounds):.1f}",
        f"{median(r.no_messages / r.step for r in rounds):.3f}",
        f"{1e3 * median(r.idle_machine for r in rounds):.1f}",
        f"{median(r.idle_machine / r.step for r in rounds):.3f}",
    ]


def main() -> None:
    """Measure the sizes and print a table."""
    arguments = rounds_parser(__doc__, 12, 4).parse_args()
    title = "8 tanh layers, 2 blocks, 1 thread per worker; medians"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fits in 80 columns
    columns = ("width", "batch", "M", "step, ms", "busy", "no messages, ms", "ratio")
    for name in (*columns, "idle machine, ms", "ratio"):
        table.add_column(name, justify="right")
    with ray_of(workers=2):
        for size in SIZES:
            rounds, busy = measure(size, arguments.rounds, arguments.steps)
            table.add_row(*row(size, rounds, busy))
    Console().print(table)


if __name__ == "__main__":
    main()
