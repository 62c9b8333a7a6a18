"""What the rule itself gains, without blocks: `python -m benchmarks.one_process`.

The same network trains in one process by DFA and by backpropagation, in fp32 and in bf16, on a GPU
where there is one. The two run in turn, a few steps each; the ratio is the median of the ratios of
the rounds. DFA saves one of each layer's three products, that of the error with the transposed
weights; it adds e·B_i, which is small.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.rounds import quartiles, rounds_parser
from benchmarks.tanh_network import CLASSES, tanh_network
from dfa_core import LearningRule, OptimizerSpec, Reference
from dfa_core.precision import Precision
from dfa_core.rule import Method

METHODS: tuple[Method, ...] = ("dfa", "bp")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def sides(
    width: int, layers: int, precision: Precision, device: torch.device
) -> dict[Method, Reference]:
    """Return the same network for each method, on the device."""
    model = tanh_network(width, layers)
    rule = LearningRule(optimizer=OptimizerSpec("sgd", 1e-3))
    made = {}
    for method in METHODS:
        made[method] = Reference(
            model, nn.functional.cross_entropy, replace(rule, precision=precision, method=method)
        )
        made[method].to(device)
    return made


def measure(
    references: dict[Method, Reference], batch: tuple[Tensor, Tensor], rounds: int, steps: int
) -> dict[Method, list[float]]:
    """Return the median seconds of a step in each round; the first round does not count."""
    found: dict[Method, list[float]] = {method: [] for method in references}
    for _ in range(rounds + 1):
        for method, reference in references.items():
            seconds = [_step(reference, batch) for _ in range(steps)]
            found[method].append(median(seconds))
    return {method: seconds[1:] for method, seconds in found.items()}


def _step(reference: Reference, batch: tuple[Tensor, Tensor]) -> float:
    start = perf_counter()
    reference.train_step(0, *batch)
    if batch[0].is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = rounds_parser(__doc__, 12, 5)
    parser.add_argument("--width", type=int, default=4096, help="features of each layer")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4096, help="samples of a step")
    given = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(
        title=f"{given.layers} tanh layers of {given.width}, batch {given.batch}, one process, "
        f"{where}; medians"
    )
    for name in ("precision", "dfa, ms a step", "bp, ms a step", "bp / dfa (quartiles)"):
        table.add_column(name, justify="right")
    x = torch.randn(given.batch, given.width, device=device)
    target = torch.randint(0, CLASSES, (given.batch,), device=device)
    for precision in PRECISIONS:
        references = sides(given.width, given.layers, precision, device)
        found = measure(references, (x, target), given.rounds, given.steps)
        ratios = [bp / dfa for bp, dfa in zip(found["bp"], found["dfa"], strict=True)]
        table.add_row(
            precision,
            f"{1e3 * median(found['dfa']):.1f}",
            f"{1e3 * median(found['bp']):.1f}",
            quartiles(ratios),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
