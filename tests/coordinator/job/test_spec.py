import math
from pathlib import Path

import pytest
import yaml
from errorcast.v1.job_pb2 import JobSpec
from hypothesis import given
from hypothesis import strategies as st

from coordinator.job.resolve import fingerprint, resolve
from coordinator.job.settings import DEFAULTS
from coordinator.job.spec import assignment, merge, parse, to_settings, to_yaml
from dfa_core import JobError

numbers = st.floats(1e-9, 1e6, allow_nan=False)
settings = st.fixed_dictionaries(
    {
        "task": st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        "method": st.sampled_from(["dfa", "bp", "shallow"]),
        "blocks": st.integers(0, 2**32 - 1),
        "seed": st.integers(0, 2**63 - 1),
        "optimizer": st.fixed_dictionaries(
            {"lr": numbers, "options": st.dictionaries(st.sampled_from("ab"), numbers)}
        ),
        "feedback": st.fixed_dictionaries(
            {"kind": st.sampled_from(["random", "identity"]), "shared": st.booleans()}
        ),
    }
)


@given(settings)
def test_a_resolved_job_reads_back_as_itself(given_settings: dict[str, object]) -> None:
    spec = parse(merge(DEFAULTS, given_settings))
    assert to_settings(parse(yaml.safe_load(to_yaml(spec)))) == to_settings(spec)
    assert JobSpec.FromString(spec.SerializeToString()) == spec
    assert to_settings(spec)["seed"] == given_settings["seed"]


def test_later_settings_win_field_by_field() -> None:
    merged = merge(
        {"optimizer": {"name": "adam", "lr": 1.0}}, {"optimizer": {"lr": 2.0}}, {"blocks": 3}
    )
    assert merged == {"optimizer": {"name": "adam", "lr": 2.0}, "blocks": 3}


def test_options_go_with_the_optimizer_they_were_given_for() -> None:
    below = {"optimizer": {"name": "sgd", "options": {"momentum": 0.9}}}
    assert "options" not in merge(below, {"optimizer": {"name": "adam"}})["optimizer"]
    assert merge(below, {"optimizer": {"lr": 1}})["optimizer"]["options"] == {"momentum": 0.9}


@pytest.mark.parametrize(("text", "value"), [("0.0005", 0.0005), ("5e-4", 5e-4), ("1", 1.0)])
def test_numbers_as_people_write_them(text: str, value: float) -> None:
    spec = parse(merge(DEFAULTS, {"task": "digits"}, assignment(f"optimizer.lr={text}")))
    assert spec.optimizer.lr == pytest.approx(value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"blocks": 1.5}, "blocks: 1.5 is not a whole number"),
        ({"blocks": True}, "blocks: True is not a finite number"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr: 'fast' is not a finite number"),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr: nan is not a finite number"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr: 0 must be above 0"),
        ({"optimizer": {"lr": math.inf}}, "optimizer.lr: inf is not a finite number"),
        ({"optimizer": 3}, "optimizer: must hold fields of its own"),
        ({"optimizer": {"learning_rate": 1}}, r"optimizer.learning_rate: unknown field"),
        ({"feedback": {"shared": "yes"}}, "feedback.shared: 'yes' is not true or false"),
        ({"feedback": {"kind": "rand"}}, "feedback.kind: unknown 'rand'; did you mean random"),
        ({"optimizer": {"schedule": "cosin"}}, "did you mean cosine"),
        ({"seed": 2**64}, "seed: .* is not a whole number"),
        ({"epochs": 0}, "epochs: 0 must be at least 1"),
        ({"resources": {"coordinator_gpus": -1}}, "coordinator_gpus: -1 must be 0 or above"),
        ({"resources": {"cuda_graphs": True}}, "cuda_graphs: needs GPUs"),
        ({"resources": {"cuda_graphs": True, "gpus": 1}, "staleness": 1}, "cuda_graphs: delayed"),
        ({"resources": {"recompute": True}, "staleness": 1}, "recompute: in delayed mode"),
        (
            {"resources": {"sharded_reading": True}},
            "sharded_reading: .* set resources.data_workers",
        ),
        (
            {"resources": {"backward_schedule": "zero_bubble"}},
            "backward_schedule: method dfa has no",
        ),
        ({"resources": {"backward_schedule": "gpipe"}}, "backward_schedule: unknown 'gpipe'"),
        ({"resources": {"recompute": True}, "method": "bp"}, "recompute: method bp"),
        ({"compiled": True, "method": "bp"}, "compiled: method bp takes a layer's graph apart"),
        ({"compiled": True, "staleness": 1}, "compiled: delayed mode computes with copies"),
        ({"trackers": ["wandb", "wandb"]}, "trackers: wandb is named 2 times"),
        ({"trackers": [1]}, "trackers: 1 is not a text"),
        ({"method": "shallow", "staleness": 1}, "staleness: method shallow has no delayed mode"),
        ({"feedback": {"hops": 1}}, "feedback.hops: 1 .* this is random"),
        ({"feedback": {"kind": "identity", "damping": 1}}, "feedback.damping: 1 must be from 0"),
        (
            {"feedback": {"kind": "identity", "hops": 1}, "resources": {"recompute": True}},
            "feedback.hops: hops run through",
        ),
        (
            {"resources": {"recompute": True, "cuda_graphs": True, "gpus": 1}},
            "recompute: a captured",
        ),
        ({"resources": {"transport": "ncl"}}, "transport: unknown 'ncl'; did you mean nccl"),
        ({"checkpoint": {"keep": 0}}, "checkpoint.keep: 0 must be at least 1"),
        ({"optimizer": {"clip_norm": -1}}, "optimizer.clip_norm: -1 must be 0 or above"),
    ],
)
def test_wrong_values_are_named_with_their_path(bad: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve("digits", bad)


@pytest.mark.parametrize(
    ("given", "threads"),
    [({}, 1), ({"cpus": 0.5}, 1), ({"cpus": 4}, 4), ({"cpus": 4, "threads": 2}, 2)],
)
def test_a_worker_has_a_thread_for_each_of_its_cpus(given: dict[str, float], threads: int) -> None:
    assert resolve("digits", {"resources": given}).spec.resources.threads == threads


def test_a_job_is_the_same_on_other_blocks_and_with_more_epochs() -> None:
    one = resolve("digits", {"blocks": 1, "epochs": 1})
    other = resolve("digits", {"blocks": 3, "epochs": 9})
    assert fingerprint(one.spec) == fingerprint(other.spec)
    assert fingerprint(resolve("digits", {"seed": 1}).spec) != fingerprint(one.spec)
    falling = {"optimizer": {"schedule": "cosine"}}
    shorter, longer = (resolve("digits", {**falling, "epochs": n}).spec for n in (1, 2))
    assert fingerprint(shorter) != fingerprint(longer)


def test_the_shipped_job_files_are_jobs(real_data: Path) -> None:
    shipped = sorted((Path(__file__).parents[3] / "deploy" / "jobs").glob("*.yaml"))
    assert shipped
    for path in shipped:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        read["data_dir"] = str(real_data)
        assert resolve(read.pop("task"), read).spec.blocks >= 1
