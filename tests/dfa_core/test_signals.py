"""What is broadcast in place of the error: its sign, or the target."""

import pytest
import torch
from support.networks import NETWORKS, Noise, rule
from torch import nn

from coordinator.job.resolve import resolve
from dfa_core import FeedbackSpec, JobError, LearningRule, Reference, TensorSpec
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.signals import broadcast, of_target
from dfa_tasks.source import as_source, pick

LOSS = nn.functional.cross_entropy


def signal(kind: FeedbackKind) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is broadcast for one of two microbatches, its error, and the targets."""
    _, target = Noise().batch(0)
    error = torch.randn(12, 10, generator=torch.Generator().manual_seed(1))
    r = rule(microbatches=2, feedback=FeedbackSpec(kind=kind))
    return broadcast(error, target[:12], r), error, target[:12]


def test_the_sign_is_of_the_mean_over_the_batch() -> None:
    sent, error, _ = signal("sign")
    assert torch.equal(sent, error.sign() / 24)


def test_the_target_stands_for_the_error() -> None:
    sent, _, target = signal("target")
    assert torch.equal(sent, -nn.functional.one_hot(target, 10) / 24)


def test_the_target_is_known_before_the_head_has_run() -> None:
    sent, _, target = signal("target")
    r = rule(microbatches=2, feedback=FeedbackSpec(kind="target"))
    assert torch.equal(of_target(target, TensorSpec((10,), torch.float32), r), sent)


@pytest.mark.trains
def test_projected_targets_train_digits_better_than_the_head_alone() -> None:
    scores = {}
    for method in ("dfa", "shallow"):
        job = resolve("digits", {"feedback": {"kind": "target"}, "method": method})
        splits = job.task.splits()
        source = as_source(splits.train, 64, seed=0)
        reference = Reference(job.model, LOSS, job.rule(source.steps_per_epoch))
        for step in range(20 * source.steps_per_epoch):
            reference.train_step(step, *source.batch(step))
        x, target = pick(splits.test, torch.arange(360))
        scores[method] = float((reference.evaluate(x).argmax(dim=1) == target).float().mean())
    assert scores["dfa"] > 0.93
    assert scores["dfa"] > scores["shallow"] + 0.02


@pytest.mark.parametrize(
    "target", [torch.zeros(4), torch.zeros(4, 2, dtype=torch.int64)], ids=["floats", "pairs"]
)
def test_other_targets_than_classes_are_refused(target: torch.Tensor) -> None:
    with pytest.raises(JobError, match="needs one class for each sample"):
        of_target(target, TensorSpec((3,), torch.float32), LearningRule())


def test_a_batch_cannot_be_skipped_without_its_error() -> None:
    settings = {"feedback": {"kind": "target"}, "faults": {"non_finite": "skip"}}
    with pytest.raises(JobError, match=r"faults\.non_finite: skip needs the error"):
        resolve("digits", settings)


def test_the_target_does_not_stand_for_an_error_at_the_heads_input() -> None:
    with pytest.raises(JobError, match=r"target replaces the error at the head's output"):
        resolve("digits-residual", {"feedback": {"kind": "target"}})


def test_what_learns_by_the_error_needs_it() -> None:
    model = NETWORKS["several-tensors"]
    r = rule(feedback=FeedbackSpec(kind="sign"))
    with pytest.raises(JobError, match=r"learns by the error itself, which feedback\.kind=sign"):
        Reference(model, LOSS, r).train_step(0, *Noise().batch(0))
