"""What CUDA graphs give a block on a GPU: `python -m benchmarks.graphs`.

The same block runs by kernels that the host launches and by graphs that it replays, in turn, a few
steps each. A step is the forwards and local updates of its microbatches and the optimizer's step;
inputs and errors are given. The ratio is the median of the ratios of the rounds.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.rounds import quartiles, rounds_parser
from benchmarks.tanh_network import CLASSES, tanh_network
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
from dfa_core.block.graphed_block import GraphedBlock
from dfa_tasks.language.transformer import transformer

MICROBATCHES, BLOCKS = 4, 2
KINDS: tuple[type[Block], ...] = (Block, GraphedBlock)

BlockInput = tuple[Model, tuple[Tensor, Tensor]]  # and a microbatch's input and error


def tanh_layers(width: int, samples: int) -> BlockInput:
    """Return 8 tanh layers."""
    return tanh_network(width, 8), (torch.randn(samples, width), torch.randn(samples, CLASSES))


def text(samples: int) -> BlockInput:
    """Return a Transformer of 4 blocks 128 wide, on chunks of 128 of 65 letters."""
    tokens = torch.randint(0, 65, (samples, 128))
    return transformer(65, points="sublayer"), (tokens, torch.randn(samples, 128, 65))


BLOCKS_MEASURED: dict[str, BlockInput] = {
    "tanh, 256 wide, 128 rows": tanh_layers(256, 128),
    "tanh, 1024 wide, 128 rows": tanh_layers(1024, 128),
    "tanh, 2048 wide, 512 rows": tanh_layers(2048, 512),
    "tanh, 4096 wide, 1024 rows": tanh_layers(4096, 1024),
    "Transformer, 16 x 128 tokens": text(16),
}


def stepping(kind: type[Block], block_input: BlockInput) -> Callable[[], None]:
    """Return a function that takes one step of a block and waits until the GPU is done."""
    model, (x, error) = block_input[0], (tensor.cuda() for tensor in block_input[1])
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
    parser = rounds_parser(__doc__, 8, 5)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a GPU that torch can use")
    table = Table(title=f"a block, {MICROBATCHES} microbatches, {torch.cuda.get_device_name()}")
    for name in ("layers", "launched, ms", "replayed, ms", "launched / replayed (quartiles)"):
        table.add_column(name, justify="right")
    for name, block_input in BLOCKS_MEASURED.items():
        steps = [stepping(kind, block_input) for kind in KINDS]
        for step in steps:
            seconds(step, 3)
        rounds = [[seconds(step, given.steps) for step in steps] for _ in range(given.rounds)]
        ratio = quartiles([launched / replayed for launched, replayed in rounds])
        launched, replayed = (1e3 * median(column) for column in zip(*rounds, strict=True))
        table.add_row(name, f"{launched:.2f}", f"{replayed:.2f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
