"""What the rule itself gains, without blocks: `python -m benchmarks.one_process`.

The same network in one process by DFA and by backpropagation, on a GPU where there is one, in fp32
and in bf16. The two run in turn, a few steps each; a ratio is the median of the rounds' own. What
DFA saves is the product of each layer's error with its transposed weights, one of a layer's three;
what it pays is e·B_i, which is thin.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import median, quantiles
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dfa_core import LearningRule, Model, OptimizerSpec, Reference
from dfa_core.precision import Precision
from dfa_core.rule import Method

CLASSES = 10
METHODS: tuple[Method, ...] = ("dfa", "bp")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def tanh_layer(width: int) -> nn.Module:
    """Return one linear map and its activation."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh())


def sides(
    width: int, layers: int, precision: Precision, device: torch.device
) -> dict[Method, Reference]:
    """Return the same network for each method, on the device."""
    model = Model((partial(tanh_layer, width),) * layers, partial(nn.Linear, width, CLASSES))
    rule = LearningRule(optimizer=OptimizerSpec("sgd", 1e-3))
    made = {}
    for method in METHODS:
        made[method] = Reference(
            model, nn.functional.cross_entropy, replace(rule, precision=precision), method
        )
        made[method].to(device)
    return made


def measure(
    references: dict[Method, Reference], batch: tuple[Tensor, Tensor], rounds: int, steps: int
) -> dict[Method, list[float]]:
    """Return the median seconds of a step in each round; the first round is thrown away."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096, help="features of each layer")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4096, help="samples of a step")
    parser.add_argument("--rounds", type=int, default=12, help="alternations of the two sides")
    parser.add_argument("--steps", type=int, default=5, help="steps of each side a round")
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
        low, middle, high = quantiles(ratios, n=4)
        table.add_row(
            precision,
            f"{1e3 * median(found['dfa']):.1f}",
            f"{1e3 * median(found['bp']):.1f}",
            f"{middle:.2f} ({low:.2f} to {high:.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
