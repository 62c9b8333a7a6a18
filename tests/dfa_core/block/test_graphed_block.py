"""A block that replays CUDA graphs trains as one that computes does."""

import pytest
import torch
from support.networks import NETWORKS, Noise, dense, rule
from torch import Tensor, nn

from dfa_core import (
    Block,
    Forward,
    Head,
    JobError,
    LearningRule,
    Model,
    Step,
    Update,
    block_actions,
    build_layers,
    split,
)
from dfa_core.block.graphed_block import GraphedBlock
from dfa_core.feedback.matrix import FeedbackSpec

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
SLOTS = 3  # as many microbatches are in flight


class Reads(nn.Module):
    """What the host has to know, no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else 2 * x


class Attends(nn.Module):
    """Attention with dropout, whose backward draws what its forward drew."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Linear(16, 3 * 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.maps(x.view(len(x), 1, 4, 16)).chunk(3, dim=-1)
        found = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=0.2)
        return found.reshape(len(x), 64)


def train(kind: type[Block], model: Model, r: LearningRule, last: int, bad: int = -1) -> Block:
    """Train steps 0..last-1 with the head in this process; the error of step `bad` is NaN."""
    layers = build_layers(model, 0, len(model.layers), r)
    head = Head(model, nn.functional.cross_entropy, r)
    for part in (*layers, head):
        part.to(GPU)
    block, waiting = kind(layers), {}
    for action in block_actions(SLOTS, r.microbatches, 0, last, 0):
        match action:
            case Forward(step, m):
                x, target = (split(t.to(GPU), r.microbatches)[m] for t in Noise().batch(step))
                waiting[step, m] = block.forward(x, step, m), target
            case Update(step, m):
                _, e = head.error(*waiting.pop((step, m)), step, m)
                block.update(e * torch.nan if step == bad else e, step, m)
            case Step(step):
                block.step(step)
                head.apply_gradients(step)
    return block


def same(one: Block, other: Block) -> None:
    """Compare all that layers hold: weights, statistics and the optimizer's state."""
    for a, b in zip(one.layers, other.layers, strict=True):
        states = a.state()[0], b.state()[0]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("network", NETWORKS)
def test_replays_train_as_computing_does(network: str, optimizer: str) -> None:
    r = rule(optimizer, microbatches=4)
    same(*(train(kind, NETWORKS[network], r, 10) for kind in (Block, GraphedBlock)))


def test_learned_feedback_matrices_are_replayed_too() -> None:
    r = rule("adam", microbatches=4, feedback=FeedbackSpec("learned"))
    same(*(train(kind, NETWORKS["mlp"], r, 10) for kind in (Block, GraphedBlock)))


def test_attention_draws_the_same_in_both_passes() -> None:
    r = rule("adam", microbatches=4)
    model = Model((Attends, Attends, dense(64, 20)), NETWORKS["mlp"].head)
    same(*(train(kind, model, r, 10) for kind in (Block, GraphedBlock)))


@pytest.mark.parametrize("bad", [0, 4])
def test_a_skipped_batch_changes_nothing(bad: int) -> None:
    r = rule("adam", microbatches=4, skip_non_finite=True)
    same(*(train(kind, NETWORKS["batch-norm"], r, 8, bad) for kind in (Block, GraphedBlock)))


def test_what_cannot_be_captured_is_said() -> None:
    def reads() -> nn.Module:
        return nn.Sequential(nn.Linear(33, 33), Reads())

    model = Model((dense(64, 33), reads, dense(33, 20)), NETWORKS["mlp"].head)
    with pytest.raises(JobError, match=r"cuda_graphs: layer 1 .* cannot be captured"):
        train(GraphedBlock, model, rule("sgd", microbatches=4), 2)
