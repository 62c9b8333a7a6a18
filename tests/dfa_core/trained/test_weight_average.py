"""Averages of weights: their formula, where they are used, and what they survive."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.in_process import train_here
from support.pipelines import LOSS
from torch import nn

from coordinator.inspection.saved_run import open_run
from coordinator.job.resolve import resolve
from dfa_core import JobError, LearningRule, OptimizerSpec, Reference, as_model

DECAY = 0.7


def reference(**more: Any) -> Reference:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return Reference(as_model(net), LOSS, LearningRule(optimizer=OptimizerSpec("sgd", 0.5), **more))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.arange(8) % 3


def test_it_follows_the_weights_as_its_formula_says() -> None:
    trained, plain = reference(ema=DECAY), reference()
    weight = plain.layers[0].module.get_parameter("0.weight")
    expected = weight.detach().clone()
    for step in range(30):
        trained.train_step(step, *batch(step))
        plain.train_step(step, *batch(step))
        kept = min(DECAY, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * weight.detach()
    tensors, _ = trained.layers[0].state()
    assert torch.equal(tensors["weights/0.weight"], weight)  # training is not touched by it
    torch.testing.assert_close(tensors["average/0.weight"], expected)
    assert not torch.allclose(expected, weight)


def test_evaluations_use_it_and_training_goes_on_with_the_weights() -> None:
    trained, x = reference(ema=DECAY), batch(0)[0]
    for step in range(5):
        trained.train_step(step, *batch(step))
    before = [p.detach().clone() for p in trained.layers[0].module.parameters()]
    found = trained.evaluate(x)
    assert all(map(torch.equal, before, trained.layers[0].module.parameters()))
    layer, head = (m.state()[0] for m in trained.trained_modules())
    h = torch.tanh(x @ layer["average/0.weight"].T + layer["average/0.bias"])
    expected = h @ head["average/0.weight"].T + head["average/0.bias"]
    torch.testing.assert_close(found, expected)


def test_a_state_brings_it_back_and_one_without_it_is_refused() -> None:
    one, other = reference(ema=DECAY), reference(ema=DECAY)
    for step in range(3):
        one.train_step(step, *batch(step))
    for ours, theirs in zip(other.trained_modules(), one.trained_modules(), strict=True):
        ours.load_state(*theirs.state())
    for step in range(3, 6):
        assert one.train_step(step, *batch(step)) == other.train_step(step, *batch(step))
    assert torch.equal(one.evaluate(batch(9)[0]), other.evaluate(batch(9)[0]))
    with pytest.raises(JobError, match=r"no average of the weight 0\.weight"):
        one.layers[0].load_state(*reference().layers[0].state())


def test_a_skipped_batch_changes_no_average() -> None:
    trained = reference(ema=DECAY, skip_non_finite=True)
    trained.train_step(0, *batch(0))
    before = trained.layers[0].state()[0]
    x, target = batch(1)
    trained.train_step(1, x * torch.nan, target)
    after = trained.layers[0].state()[0]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.trains
def test_the_model_that_a_run_writes_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 16, "ema": 0.9, "options": {"width": 32}}
    run = train_here("digits", tmp_path / "run", epochs=2, **settings)
    assert open_run(run.folder).scores() == pytest.approx(run.metrics)
    written = load_file(run.folder / "model.safetensors")
    found = run.folder.glob("checkpoints/*/layer-0000*.safetensors")
    state = load_file(max(found))
    assert torch.equal(written["layers.0.0.weight"], state["average/0.weight"])
    assert not torch.equal(written["layers.0.0.weight"], state["weights/0.weight"])
    longer = train_here("digits", tmp_path / "run", resume=True, epochs=3, **settings)
    whole = train_here("digits", tmp_path / "whole", epochs=3, **settings)
    assert longer.metrics == whole.metrics


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_that_are_none_are_refused(decay: float) -> None:
    with pytest.raises(JobError, match=r"ema: .* must be from 0 to below 1"):
        resolve("digits", {"ema": decay})
