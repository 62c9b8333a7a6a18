"""What CUDA graphs give a block on a GPU: `python -m benchmarks.graphs`.

The same block, by kernels that the host launches and by graphs that it replays, in turn, a few
steps each; forwards and local updates of a step's microbatches and the optimizer's step, from
inputs and errors that are there. A ratio is the median of the rounds' own.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.one_process import tanh_layer
from dfa_core import (
    Block,
    Forward,
    LearningRule,
    Model,
    OptimizerSpec,
    Step,
    Update,
    block_actions,
    build_layers,
)
from dfa_core.graphed_block import GraphedBlock
from dfa_tasks.language.transformer import transformer

MICROBATCHES, BLOCKS = 4, 2
KINDS: tuple[type[Block], ...] = (Block, GraphedBlock)

Workload = tuple[Model, tuple[Tensor, Tensor]]  # with a microbatch's input and its error


def tanh_layers(width: int, samples: int) -> Workload:
    """Return 8 tanh layers."""
    model = Model((partial(tanh_layer, width),) * 8, partial(nn.Linear, width, 10))
    return model, (torch.randn(samples, width), torch.randn(samples, 10))


def text(samples: int) -> Workload:
    """Return a Transformer of 4 blocks 128 wide, on chunks of 128 of 65 letters."""
    tokens = torch.randint(0, 65, (samples, 128))
    return transformer(65, points="sublayer"), (tokens, torch.randn(samples, 128, 65))


CASES: dict[str, Workload] = {
    "tanh, 256 wide, 128 rows": tanh_layers(256, 128),
    "tanh, 1024 wide, 128 rows": tanh_layers(1024, 128),
    "tanh, 2048 wide, 512 rows": tanh_layers(2048, 512),
    "tanh, 4096 wide, 1024 rows": tanh_layers(4096, 1024),
    "Transformer, 16 x 128 tokens": text(16),
}


def stepping(kind: type[Block], workload: Workload) -> Callable[[], None]:
    """Return what takes one step of a block, and waits until the GPU is through."""
    model, (x, error) = workload[0], (tensor.cuda() for tensor in workload[1])
    optimizer = OptimizerSpec("adam", 1e-3)
    rule = LearningRule(optimizer=optimizer, sample_dims=error.dim() - 1, microbatches=MICROBATCHES)
    layers = build_layers(model, 0, len(model.layers), rule)
    for layer in layers:
        layer.to(torch.device("cuda"))
    block = kind(layers)

    def step() -> None:
        for action in block_actions(BLOCKS, MICROBATCHES, 0, 1, 0):
            match action:
                case Forward(_, m):
                    block.forward(x, 0, m)
                case Update(_, m):
                    block.update(error, 0, m)
                case Step(_):
                    block.step(0)
        torch.cuda.synchronize()

    return step


def seconds(step: Callable[[], None], steps: int) -> float:
    """Return the median seconds of a step."""
    found = []
    for _ in range(steps):
        start = perf_counter()
        step()
        found.append(perf_counter() - start)
    return median(found)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="alternations of the two")
    parser.add_argument("--steps", type=int, default=5, help="steps of each a round")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU that torch can use")
    table = Table(title=f"a block, {MICROBATCHES} microbatches, {torch.cuda.get_device_name()}")
    for name in ("layers", "launched, ms", "replayed, ms", "launched / replayed (quartiles)"):
        table.add_column(name, justify="right")
    for name, workload in CASES.items():
        steps = [stepping(kind, workload) for kind in KINDS]
        for step in steps:
            seconds(step, 3)
        rounds = [[seconds(step, given.steps) for step in steps] for _ in range(given.rounds)]
        low, middle, high = quantiles([launched / replayed for launched, replayed in rounds], n=4)
        launched, replayed = (1e3 * median(column) for column in zip(*rounds, strict=True))
        ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(name, f"{launched:.2f}", f"{replayed:.2f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
