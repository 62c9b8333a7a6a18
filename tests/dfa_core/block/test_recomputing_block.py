"""A recomputing block keeps inputs alone; each forward has the buffers that it had first."""

import gc
import weakref
from functools import partial

import torch
from torch import Tensor, nn

from dfa_core import Block, LearningRule, Model, OptimizerSpec, build_layers
from dfa_core.block.recomputing_block import RecomputingBlock

MADE = list["weakref.ref[Tensor]"]()


class Counting(nn.Module):
    """Its output depends on a buffer that each forward changes; it remembers what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 6)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.data += 1
        h = self.line(x) * (1 + 0.1 * self.calls.clone()) + 0.1 * torch.rand(len(x), 6)
        MADE.append(weakref.ref(h))
        return h


MODEL = Model((Counting, partial(nn.BatchNorm1d, 6), Counting), partial(nn.Linear, 6, 3))
RULE = LearningRule(microbatches=4, optimizer=OptimizerSpec("adam", 1e-2))


def trained(kind: type[Block]) -> tuple[list[Tensor], dict[str, Tensor], int]:
    """Let three microbatches wait at a time; return outputs, state, and outputs alive meanwhile."""
    MADE.clear()
    draw = torch.Generator().manual_seed(0)
    block = kind(build_layers(MODEL, 0, 3, RULE))
    xs = [torch.randn(5, 6, generator=draw) for _ in range(4)]
    errors = [torch.randn(5, 3, generator=draw) for _ in range(4)]
    outputs = [block.forward(xs[m], 0, m) for m in range(3)]
    gc.collect()
    alive = sum(made() is not None for made in MADE)
    block.update(errors[0], 0, 0)
    outputs.append(block.forward(xs[3], 0, 3))
    for m in range(1, 4):
        block.update(errors[m], 0, m)
    block.step(0)
    state = {
        f"{layer.name}/{name}": value
        for layer in block.layers
        for name, value in layer.state()[0].items()
    }
    return outputs, state, alive


def test_it_has_a_blocks_bits_and_keeps_no_layers_output() -> None:
    kept, recomputed = trained(Block), trained(RecomputingBlock)
    assert all(torch.equal(a, b) for a, b in zip(kept[0], recomputed[0], strict=True))
    assert kept[1].keys() == recomputed[1].keys()
    assert all(torch.equal(kept[1][name], recomputed[1][name]) for name in kept[1])
    assert kept[2] == 6
    assert recomputed[2] == 0


def test_what_is_not_finite_is_named() -> None:
    block = RecomputingBlock(build_layers(MODEL, 0, 3, RULE))
    block.forward(torch.full((5, 6), torch.inf), 0, 0)
    assert block.first_non_finite() == "layer 0 (Counting), its output"
