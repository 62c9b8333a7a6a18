"""NaN and infinity: stop, skip the batch, or roll back and lower the rate, on any blocks."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.in_process import train_here
from support.networks import NETWORKS, Noise, dense, rule, stack
from support.pipelines import LOSS, assert_same_state, pipeline, save, train
from support.runs import Listener
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import coordinator
from coordinator.training.events import RolledBack, Warned
from dfa_core import JobError, Model, Reference, TrainingFailed
from dfa_core.block import Block
from dfa_core.layer import build_layers
from dfa_tasks import Splits, Task
from workers.placement import Worker

NON_FINITE = (3, 7, 8)
STEPS = 12


class NonFiniteNoise(Noise):
    """Three batches have a NaN in one sample, each in a different microbatch."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        x, target = super().batch(step)
        if step in NON_FINITE:
            x = x.clone()
            x[(step * 5) % len(x), 0] = float("nan")
        return x, target


@pytest.mark.parametrize("staleness", [0, 2])
def test_skipped_batches_change_nothing_on_any_number_of_blocks(
    four_workers: list[Worker], tmp_path: Path, staleness: int
) -> None:
    r = rule("adam", 2, staleness=staleness, skip_non_finite=True)
    model = NETWORKS["batch-norm"]
    reference = Reference(model, LOSS, r)
    expected = [reference.train_step(s, *NonFiniteNoise().batch(s)) for s in range(STEPS)]
    assert [s for s in range(STEPS) if expected[s] != expected[s]] == list(NON_FINITE)
    for module in reference.trained_modules():
        assert module.first_non_finite() is None
        assert module.take_skipped() == list(NON_FINITE)
    for blocks in (1, 2, 4):
        with pipeline(four_workers, "batch-norm", r, blocks, source=NonFiniteNoise()) as engine:
            engine.start(None)
            losses: list[float] = []
            note = partial(lambda losses, _, loss: losses.append(loss), losses)
            engine.trace()
            skipped = engine.train(0, 5, note)
            spans = [len(one.spans) for one in engine.recordings()]
            assert spans == [*[5 * 2 + 5 * 2 + 5 - staleness] * blocks, 5 * 2]
            skipped += engine.train(5, STEPS, note)  # reports none of them again
            save(engine, tmp_path / f"{blocks}", STEPS)
        assert [str(loss) for loss in losses] == [str(loss) for loss in expected]
        assert {step for step, _ in skipped} == set(NON_FINITE)
        assert len(skipped) == len(NON_FINITE) * 5  # four layers and the head
        assert_same_state(tmp_path / f"{blocks}", reference.trained_modules())


def test_without_non_finite_batches_the_policy_changes_no_bit(four_workers: list[Worker]) -> None:
    skips, stops = (
        Reference(NETWORKS["conv"], LOSS, rule("adam", 2, skip_non_finite=skip))
        for skip in (True, False)
    )
    assert train(skips, 0, 5) == train(stops, 0, 5)


class Root(nn.Module):
    """Its output is finite where its slope is not: at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def test_only_the_layer_with_a_non_finite_gradient_skips_the_batch() -> None:
    zero = partial(nn.Linear, 20, 20, bias=False)
    model = Model((dense(64, 20), partial(stack, zero, partial(Root))), partial(nn.Linear, 20, 10))
    r = rule("sgd", 1, skip_non_finite=True)
    layers = build_layers(model, 0, 2, r)
    with torch.no_grad():
        next(layers[1].module.parameters()).zero_()
    block, before = Block(layers), [layer.state()[0] for layer in layers]
    x = torch.randn(6, 64)
    assert torch.isfinite(block.forward(x, 0, 0)).all()
    block.update(torch.randn(6, 10), 0, 0)
    block.step(0)
    after = [layer.state()[0] for layer in layers]
    assert [layer.take_skipped() for layer in layers] == [[], [0]]
    name = next(key for key in before[0] if key.startswith("weights/"))
    assert not torch.equal(before[0][name], after[0][name])
    assert all(torch.equal(before[1][k], after[1][k]) for k in before[1])


def a_task(non_finite: float | None = None) -> Task:
    x = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
    target = (x.sum(1) > 0).long()
    if non_finite is not None:
        x[17, 2] = non_finite
    torch.manual_seed(0)
    test = TensorDataset(x[64:128], target[64:128])
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    data = Splits(TensorDataset(x, target), test)
    return Task(model=net, loss=nn.functional.cross_entropy, data=data, name="sums")


QUICK: dict[str, Any] = {"batch_size": 32, "epochs": 3, "microbatches": 2, "log_every": 1}


def test_a_non_finite_sample_stops_the_run_or_skips_its_batch(a_ray: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"the loss is nan at step \d, microbatch"):
        coordinator.train(a_task(float("nan")), run_dir=tmp_path / "stop", blocks=1, **QUICK)
    listener = Listener()
    run = coordinator.train(
        a_task(float("nan")),
        run_dir=tmp_path / "skip",
        viewer=listener,
        faults={"non_finite": "skip"},
        blocks=1,
        **QUICK,
    )
    skipped = re.compile(r"skipped step \d+: its loss is nan$")
    warnings = [m for m in listener.messages(Warned) if skipped.match(m)]
    assert len(warnings) == 3  # one batch an epoch
    assert all(torch.isfinite(t).all() for t in run.model.state_dict().values())
    logged = [line["step"] for line in run.curves if line["kind"] == "train"]
    assert len(logged) == 3 * 8 - 3
    assert all(line["loss"] == line["loss"] for line in run.curves)
    # a tanh makes infinity finite: the loss is finite, the first layer's gradient is not
    listener = Listener()
    settings = {**QUICK, "faults": {"non_finite": "skip"}, "run_dir": tmp_path / "layer"}
    coordinator.train(a_task(float("inf")), viewer=listener, **settings)  # on two blocks
    warnings = listener.messages(Warned)
    assert len(warnings) == 3
    assert all(m.startswith("layer 0 (Linear+Tanh): skipped the batch of step ") for m in warnings)


def test_a_run_that_blows_up_is_rolled_back_with_a_lower_rate(a_ray: None, tmp_path: Path) -> None:
    """On any number of blocks, and interrupted and resumed after it, with the same bits."""
    job: dict[str, Any] = {
        **QUICK,
        "optimizer": {"name": "sgd", "lr": 1e38},
        "faults": {"non_finite": "roll_back", "rate_factor": 1e-39},
    }
    listener = Listener()
    once = coordinator.train(a_task(), run_dir=tmp_path / "a", viewer=listener, blocks=2, **job)
    reported = listener.messages(RolledBack)
    assert len(reported) == 1
    assert "the loss is nan at step 1" in reported[0]
    assert reported[-1].endswith("rolled back to step 0, learning rate 0.1 from there")
    logged = [line for line in once.curves if line["kind"] == "train"]
    assert [line["step"] for line in logged] == list(range(1, 25))
    assert [line["lr"] for line in logged] == pytest.approx([0.1] * 24)
    other = {**job, "epochs": 1, "run_dir": tmp_path / "b"}
    train_here(a_task(), blocks=1, **other)
    again = coordinator.train(a_task(), blocks=1, resume=True, **{**other, "epochs": 3})
    assert {line["lr"] for line in again.curves if line["kind"] == "train"} == {logged[0]["lr"]}
    ours, theirs = once.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for method in ("bp", "shallow"):
        run = train_here(a_task(), method=method, run_dir=tmp_path / method, **job)
        assert run.summary["finished"]


def test_a_run_that_always_blows_up_ends(a_ray: None, tmp_path: Path) -> None:
    job = {**QUICK, "faults": {"non_finite": "roll_back", "recoveries": 2}}
    with pytest.raises(TrainingFailed, match="gave up after 2 roll-backs in a row"):
        coordinator.train(a_task(float("nan")), run_dir=tmp_path / "a", blocks=1, **job)


def test_a_factor_that_lowers_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"faults.rate_factor: 1 must be below 1"):
        coordinator.train("digits", run_dir=tmp_path / "a", faults={"rate_factor": 1})
