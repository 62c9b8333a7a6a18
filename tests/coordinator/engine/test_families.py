"""The paper's families on blocks in Ray actors: the bits of the single-process reference."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from support.same_bits import assert_bits
from torch import Tensor, nn

from coordinator.job.resolve import resolve
from dfa_core import FeedbackSpec, LearningRule, Model, OptimizerSpec
from dfa_core.feedback.rules import FeedbackKind as Feedback
from dfa_core.loss import Loss
from dfa_core.precision import Precision
from dfa_core.rule import ErrorAt
from dfa_tasks import BatchSource
from dfa_tasks.graphs.convolutions import ConvolutionKind
from dfa_tasks.graphs.full_batch import WholeGraph
from dfa_tasks.graphs.models import dna, graph_network
from dfa_tasks.graphs.planetoid import load_graph
from dfa_tasks.graphs.tasks import node_loss
from dfa_tasks.language.tasks import token_loss
from dfa_tasks.language.transformer import AttentionKind as Attention
from dfa_tasks.language.transformer import Points, transformer
from dfa_tasks.recommenders.models import afn, autoint, dcn, deepfm, features_linear, fm
from dfa_tasks.recommenders.tasks import click_loss
from dfa_tasks.view_synthesis.nerf import Bounds, Trunk, nerf
from dfa_tasks.view_synthesis.tasks import both_losses
from dfa_tasks.vision.residual_images import residual_images
from dfa_tasks.vision.vision_transformer import vision_transformer
from workers.placement import Worker

STEPS = 5
IDS, FIELDS = 50, 5
RECOMMENDERS = {
    "linear": features_linear(IDS),
    "fm": fm(IDS, size=4),
    "deepfm": deepfm(IDS, FIELDS, size=4, widths=(8, 8)),
    "dcn": dcn(IDS, FIELDS, size=4, crosses=2, widths=(8,)),
    "dcn, deep head": dcn(IDS, FIELDS, size=4, crosses=2, widths=(8, 8), head_layers=1),
    "dcn, by feedback, deep head": dcn(
        IDS, FIELDS, size=4, crosses=1, widths=(8, 8), head_layers=1, cross_error=False
    ),
    "autoint, deep head": autoint(
        IDS, FIELDS, size=4, attentions=1, attention_width=4, widths=(8, 8), head_layers=1
    ),
    "autoint": autoint(IDS, FIELDS, size=4, attentions=2, attention_width=4, widths=(8,)),
    "afn": afn(IDS, FIELDS, size=4, neurons=6, widths=(8,)),
    "afn, deep head": afn(IDS, FIELDS, size=4, neurons=6, widths=(8, 8, 8), head_layers=1),
    "afn, apart, deep head": afn(
        IDS, FIELDS, size=4, neurons=6, widths=(8, 8), head_layers=1, joint=False
    ),
}


class RandomClicks:
    """Batches of random ids."""

    steps_per_epoch = 10

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, IDS, (24, FIELDS), generator=generator)
        return ids, (ids[:, 0] % 2).float()


def assert_any_blocks_give_the_references_bits(
    workers: list[Worker],
    tmp_path: Path,
    model: Model,
    loss: Loss,
    rule: LearningRule,
    source: BatchSource,
) -> None:
    """By the rule on one to three blocks, and by backpropagation on as many as there can be."""
    blocks = range(1, min(3, len(model.layers)) + 1)
    assert_bits(workers, tmp_path / "dfa", model, loss, rule, source, blocks)
    exact = replace(rule, method="bp", feedback=FeedbackSpec())
    assert_bits(workers, tmp_path / "bp", model, loss, exact, source, blocks[-1:])


@pytest.mark.parametrize(
    ("name", "feedback"), [*((name, "random") for name in RECOMMENDERS), ("dcn", "forward")]
)
def test_recommenders(
    four_workers: list[Worker], tmp_path: Path, name: str, feedback: Feedback
) -> None:
    at: ErrorAt = "input" if "deep head" in name else "output"
    rule = LearningRule(
        microbatches=2,
        optimizer=OptimizerSpec("adam", 1e-2),
        feedback=FeedbackSpec(feedback),
        error_at=at,
    )
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, RECOMMENDERS[name], click_loss, rule, RandomClicks()
    )


@pytest.mark.parametrize(
    "network", [*get_args(ConvolutionKind), "residual gcn", "gathered cheb", "dna"]
)
def test_graph_networks(
    four_workers: list[Worker], tmp_path: Path, real_data: Path, network: str
) -> None:
    load = partial(load_graph, "cora", str(real_data / "planetoid"))
    if network == "dna":
        model = dna(load, layers=3, width=16, heads=2, groups=2, dropout=0.1)
    else:
        kind: ConvolutionKind = network.rsplit(maxsplit=1)[-1]  # type: ignore[assignment]
        how = dict.fromkeys(network.split()[:-1], True)
        model = graph_network(kind, load, layers=4, width=8, dropout=0.1, **how)
    graph = load()
    target = torch.stack([graph.classes, graph.train.long()], dim=1)
    decayed = OptimizerSpec("adam", 1e-2, layer_options={"0": {"weight_decay": 1e-4}})
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, model, node_loss, LearningRule(optimizer=decayed),
        WholeGraph(torch.arange(graph.nodes), target),
    )  # fmt: skip


def test_the_autoencoder(four_workers: list[Worker], tmp_path: Path, real_data: Path) -> None:
    """Its loss draws pairs of nodes: from their position, wherever the head is."""
    job = resolve("cora-autoencoder", {"data_dir": str(real_data)})
    source = job.task.splits().train
    assert isinstance(source, WholeGraph)
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, job.model, job.task.loss, job.rule(1), source
    )


class RandomTokens:
    """Batches of random tokens."""

    steps_per_epoch = 10

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, 11, (8, 7), generator=torch.Generator().manual_seed(step))
        return tokens[:, :-1], tokens[:, 1:].contiguous()


@pytest.mark.parametrize(
    ("points", "attention", "feedback", "precision"),
    [
        ("block", "standard", "identity", "fp32"),
        ("block", "standard", "identity", "bf16"),
        ("sublayer", "dense", "identity", "fp32"),
        ("micro", "random", "random", "fp32"),
        ("block", "fixed", "learned", "fp32"),
        ("micro", "standard", "forward", "bf16"),
    ],
)
def test_transformers(
    four_workers: list[Worker],
    tmp_path: Path,
    points: Points,
    attention: Attention,
    feedback: Feedback,
    precision: Precision,
) -> None:
    rule = LearningRule(
        microbatches=2,
        precision=precision,
        optimizer=OptimizerSpec("adamw", 1e-2, clip_norm=1.0, schedule="inverse_sqrt"),
        feedback=FeedbackSpec(kind=feedback),
        error_at="input",
        sample_dims=2,
    )
    model = transformer(
        11, length=6, blocks=2, width=8, heads=2, hidden=16, points=points, attention=attention
    )
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, model, token_loss, rule, RandomTokens()
    )


class RandomRays:
    """Batches of random rays and colours."""

    steps_per_epoch = 10

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        rays = torch.randn(12, 9, generator=generator)
        return rays, torch.rand(12, 3, generator=generator)


@pytest.mark.parametrize(
    ("trunk", "feedback"),
    [
        ("plain", "random"),
        ("plain", "learned"),
        ("plain", "forward"),
        ("residual", "identity"),
        ("residual", "random"),
    ],
)
def test_coarse_and_fine_radiance_fields(
    four_workers: list[Worker], tmp_path: Path, trunk: Trunk, feedback: Feedback
) -> None:
    rule = LearningRule(
        microbatches=3,
        optimizer=OptimizerSpec("adam", 1e-2, schedule="exponential", total_steps=STEPS),
        feedback=FeedbackSpec(feedback),
        error_at="input",
        sample_dims=2,
    )
    model = nerf(Bounds(2.0, 6.0), trunk, layers=3, width=8, coarse=6, fine=5)
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, model, both_losses, rule, RandomRays()
    )


class RandomImages:
    """Batches of random images and classes."""

    steps_per_epoch = 10

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(12, 3, 8, 8, generator=generator)
        return images, torch.randint(0, 10, (12,), generator=generator)


IMAGE_NETWORKS = {
    "resnet": (residual_images(3, 10, blocks=3, width=4, hidden=6, points=1), 3),
    "vit": (
        vision_transformer(3, 8, 10, blocks=3, width=8, heads=2, hidden=12, patch=2, points=1),
        2,
    ),
}


@pytest.mark.parametrize(
    ("network", "feedback"), [("resnet", "identity"), ("resnet", "random"), ("vit", "identity")]
)
def test_images_with_a_residual_stream(
    four_workers: list[Worker], tmp_path: Path, network: str, feedback: Feedback
) -> None:
    model, sample_dims = IMAGE_NETWORKS[network]
    rule = LearningRule(
        microbatches=3,
        optimizer=OptimizerSpec("muon", 1e-2, schedule="cosine", total_steps=STEPS),
        feedback=FeedbackSpec(feedback),
        error_at="input",
        sample_dims=sample_dims,
    )
    assert_any_blocks_give_the_references_bits(
        four_workers, tmp_path, model, nn.functional.cross_entropy, rule, RandomImages()
    )
