"""The networks of images with a residual stream: its shape, and what identity feedback teaches."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dfa_core import FeedbackSpec, JobError, LearningRule, Model, Reference
from dfa_tasks import make_task
from dfa_tasks.vision.residual_images import residual_images
from dfa_tasks.vision.vision_transformer import vision_transformer

NETWORKS = {
    "resnet": residual_images(3, 10, blocks=3, width=4, hidden=6, points=1),
    "vit": vision_transformer(
        3, side=8, classes=10, blocks=3, width=8, heads=2, hidden=12, patch=2, points=1
    ),
}
STREAMS = {"resnet": (5, 4, 4, 4), "vit": (5, 16, 8)}
IMAGES = (5, 3, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stream_keeps_its_shape_and_blocks_begin_as_the_identity(name: str) -> None:
    model, h = NETWORKS[name], torch.randn(IMAGES)
    for index in range(len(model.layers)):
        before, h = h, model.build_layer(index, seed=0)(h)
        assert h.shape == STREAMS[name]
        assert h.is_contiguous()
        assert index == 0 or torch.equal(h, before)
    assert model.build_head(0)(h).shape == (5, 10)


def gradients(model: Model, rule: LearningRule) -> list[dict[str, torch.Tensor]]:
    """Gradients of each layer of the model in float64, whose weights are drawn and none is 0."""
    reference = Reference(model, nn.functional.cross_entropy, rule)
    drawn = torch.Generator().manual_seed(1)
    for module in (*reference.layers, reference.head):
        module.module.double()
        for weight in module.parameters.values():
            weight.data.normal_(std=0.3, generator=drawn)
    images = torch.randn(IMAGES, generator=drawn, dtype=torch.float64)
    reference.add_gradients(0, images, torch.arange(5))
    return [{n: w.grad for n, w in layer.parameters.items()} for layer in reference.layers]  # type: ignore[misc]


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_feedback_is_exact_for_the_last_block_alone(name: str) -> None:
    rule = LearningRule(error_at="input", feedback=FeedbackSpec("identity"))
    ours = gradients(NETWORKS[name], rule)
    exact = gradients(NETWORKS[name], replace(rule, method="bp", feedback=FeedbackSpec()))
    same = [
        all(torch.allclose(mine[n], theirs[n], rtol=1e-9, atol=1e-12) for n in mine)
        for mine, theirs in zip(ours, exact, strict=True)
    ]
    assert same == [False, False, True]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("digits-resnet", {"blocks": 0}, "options.blocks: 0 is not a whole number above 0"),
        ("digits-resnet", {"points": 4}, "options.points: 4 does not divide the 6 blocks"),
        ("digits-vit", {"patch": 3}, "options.patch: 3 does not divide the 8 pixels"),
        ("digits-vit", {"heads": 5}, "options.heads: 5 does not divide the width"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(task: str, options: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        make_task(task, options)
