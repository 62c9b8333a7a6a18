"""Hops through later layers: from identity feedback to backpropagation, on any blocks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.networks import NETWORKS, Noise, normed, rule
from support.pipelines import LOSS, assert_like, pipeline
from torch import nn

from dfa_core import FeedbackSpec, JobError, LearningRule, Model, Reference, build_layers
from dfa_core.block.hopping_block import HoppingBlock
from workers.placement import Worker

NETWORK = "norm-dropout"  # four layers of one shape; the error is taken at the head's input
LAYERS = len(NETWORKS[NETWORK].layers)


def hopping(hops: int, damping: float = 0.0, **more: object) -> LearningRule:
    feedback = FeedbackSpec("identity", hops=hops, damping=damping)
    return rule("adam", 4, feedback=feedback, error_at="input", **more)


def gradients(r: LearningRule) -> list[torch.Tensor]:
    reference = Reference(NETWORKS[NETWORK], LOSS, r)
    reference.add_gradients(0, *Noise().batch(0))
    found = [p.grad for layer in reference.layers for p in layer.parameters.values()]
    assert all(gradient is not None for gradient in found)
    return found


@pytest.mark.unit
def test_from_identity_feedback_to_backpropagation() -> None:
    exact = gradients(replace(hopping(0), method="bp"))
    apart = []
    for hops in range(LAYERS + 1):
        found = gradients(hopping(hops))
        apart.append(
            sum(float((a - b).norm()) for a, b in zip(found, exact, strict=True)) / len(exact)
        )
    assert apart[0] > apart[1] > 0
    for k in (LAYERS - 1, LAYERS):
        assert apart[k] < 1e-6 < 1e-3 * apart[0]
    undamped = gradients(hopping(1))
    damped = gradients(hopping(1, damping=0.2))
    assert all(map(torch.equal, undamped[-2:], damped[-2:]))  # nothing comes after the last layer
    assert not torch.equal(undamped[0], damped[0])


@pytest.mark.parametrize(
    ("hops", "blocks", "replicas", "head", "staleness"),
    [
        (1, 1, 1, "coordinator", 0),
        (1, 4, 1, "block", 0),
        (2, 2, 1, "coordinator", 0),
        (2, 2, 2, "coordinator", 0),
        (3, 3, 1, "workers", 0),
        (1, 3, 1, "block", 2),
    ],
)
def test_it_gives_the_references_bits(
    four_workers: list[Worker],
    tmp_path: Path,
    hops: int,
    blocks: int,
    replicas: int,
    head: str,
    staleness: int,
) -> None:
    r = hopping(hops, damping=0.2, staleness=staleness)
    heads = int(head == "workers")
    told = partial(Reference, NETWORKS[NETWORK], LOSS, r, replicas=replicas, heads=heads)
    settings = {"replicas": replicas, "head": head, "heads": heads}
    with pipeline(four_workers, NETWORK, r, blocks, **settings) as engine:
        assert_like(told, engine, tmp_path, 8)


class Both(nn.Linear):
    learns_by = ("error",)


@pytest.mark.unit
def test_layers_that_learn_by_the_error_itself_are_refused() -> None:
    model = Model((partial(Both, 8, 8), normed(8)), partial(nn.Linear, 8, 3))
    with pytest.raises(JobError, match="feedback.hops: an output of layer 0"):
        HoppingBlock(build_layers(model, 0, 2, hopping(1)))
