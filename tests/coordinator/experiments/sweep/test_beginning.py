"""What a sweep is asked for: its trials follow from it alone, and what is wrong is said at once."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.experiments.sweep.beginning import Wanted, begin, extended
from coordinator.experiments.sweep.record import Sweep
from dfa_core import JobError

RATE, SCALE = "optimizer.lr=1e-4..1e-1:log", "feedback.scale=0.3,1,3"


def begun(*over: str, task: str = "digits", **changes: Any) -> tuple[Sweep, list[str]]:
    said: list[str] = []
    asked = {"methods": ("dfa", "bp"), "trials": 4, "settings": {"options": {"width": 16}}}
    sweep, _ = begin(Wanted(task, over=over, **{**asked, **changes}), said.append)
    return sweep, said


def test_the_same_sweep_has_the_same_trials() -> None:
    sweep, said = begun(RATE, SCALE)
    assert begun(RATE, SCALE)[0] == sweep
    assert [trial.name for trial in sweep.trials[:4]] == ["dfa-0", "bp-0", "dfa-1", "bp-1"]
    assert all(set(trial.values) == {"optimizer.lr"} for trial in sweep.of_method("bp"))
    assert all(len(trial.values) == 2 for trial in sweep.of_method("dfa"))
    assert "feedback.scale: bp does not use it, so its trials do not vary it" in said
    assert any("no validation data" in line for line in said)
    another, _ = begun(RATE, SCALE, seed=1)
    assert not any(a.values == b.values for a, b in zip(another.trials, sweep.trials, strict=True))
    longer, _ = begun(RATE, SCALE, trials=6)
    assert longer.of_method("dfa")[:4] == sweep.of_method("dfa")
    assert extended(sweep, 6, said.append) == longer
    with pytest.raises(JobError, match="--trials: the sweep has 4 of each method, not 3"):
        extended(sweep, 3, said.append)


def test_trials_find_first_weights_from_any_folder() -> None:
    sweep, _ = begun(RATE, settings={"init": "weights.safetensors"})
    assert sweep.definition.settings["init"] == str(Path("weights.safetensors").absolute())


def test_no_trial_is_there_twice() -> None:
    sweep, said = begun(SCALE, trials=9)
    assert sorted(trial.values["feedback.scale"] for trial in sweep.of_method("dfa")) == [0.3, 1, 3]
    assert [trial.values for trial in sweep.of_method("bp")] == [{}]
    assert "dfa: its ranges hold 3 different trial(s), not 9" in said
    narrow, _ = begun("optimizer.lr=1.0..1.0001", methods=("bp",), trials=3)
    assert len(narrow.trials) == 1  # four digits do not tell more of them apart


def test_all_trials_have_the_same_budget() -> None:
    sweep, _ = begun(RATE, settings={"epochs": 7})
    assert sweep.definition.settings["epochs"] == 7
    assert sweep.definition.halving.rungs == [1, 3]
    assert begun(RATE)[0].definition.settings["epochs"] == 40  # the task's own
    assert begun(RATE, grace=7, settings={"epochs": 7})[0].definition.halving.rungs == []


def test_a_field_that_another_one_brings_into_use_is_drawn() -> None:
    sweep, _ = begun("feedback.sent_as=topk,bf16", "feedback.keep=0.1..0.9", methods=("dfa",))
    assert all("feedback.keep" in trial.values for trial in sweep.trials)
    hops, _ = begun("feedback.hops=0,1", methods=("dfa-identity",), task="digits-residual")
    assert all("feedback.hops" in trial.values for trial in hops.trials)


@pytest.mark.parametrize(
    ("over", "changes", "why"),
    [
        ((), {}, "--over: name at least one field to vary"),
        ((RATE, "optimizer.lr=1,2"), {}, "optimizer.lr has a range already"),
        ((RATE,), {"settings": {"optimizer": {"lr": 1}}}, "--set gives optimizer.lr a value"),
        (("optimizer.lr=-1..1",), {}, r"--over optimizer.lr=-1..1: optimizer.lr: -1 must be above"),
        (("batch_size=16,33",), {}, "batch_size=16,33: microbatches: 4 does not divide"),
        (
            ("batch_size=16..64",),
            {"trials": 9},
            r"trial dfa-\d \(batch_size=\d+\): microbatches: 4",
        ),
        (("feedback.kind=random,identity",), {}, "dfa has a value of its own for feedback.kind"),
        ((SCALE,), {"methods": ("bp",)}, "--over feedback.scale: no method of this sweep uses it"),
        (("feedback.keep=0.1,0.2",), {}, "--over feedback.keep: no method"),
        (("feedback.damping=0.1,0.2",), {}, "--over feedback.damping: no method"),
        (("optimizer.patience=1,2",), {}, "--over optimizer.patience: no method"),
        (("options.widht=8..16",), {}, "has no 'widht'; did you mean width"),
        (("optimizer.name=adam,sgdd",), {}, "unknown 'sgdd'; did you mean SGD"),
        ((RATE,), {"methods": ("dfa", "bb")}, "--method: unknown 'bb'; did you mean bp"),
        ((RATE,), {"methods": ("bp", "bp")}, "names a method twice"),
        ((RATE,), {"metric": "acuracy"}, "--metric: unknown 'acuracy'; did you mean accuracy"),
        ((RATE,), {"trials": 0}, "--trials: 0 must be at least 1"),
        ((RATE,), {"reduction": 1}, "--reduction: 1 must be at least 2"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    over: tuple[str, ...], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(JobError, match=why) as raised:
        begun(*over, **changes)
    assert "\n" not in str(raised.value)
