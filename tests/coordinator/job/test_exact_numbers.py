"""Options reach a task's function as they were given, though a Struct holds doubles only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errorcast.v1.job_pb2 import JobSpec
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from coordinator.job.resolve import fingerprint, resolve
from coordinator.job.settings import decode
from coordinator.job.spec import assignment, only_given, parse, read_recorded, to_settings, to_yaml
from dfa_core import JobError

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    NUMBERS | st.booleans() | st.none() | st.text(max_size=3) | st.sampled_from([1.0, -0.0, 2**53]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
OPTIONS = st.dictionaries(st.sampled_from(["a", "b/c", "~", "0", "1.0"]), VALUES)


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # tells 1.0 from 1, and -0.0 from 0.0


@given(OPTIONS, OPTIONS)
def test_options_survive_the_wire_and_the_run_folder(
    options: dict[str, Any], others: dict[str, Any]
) -> None:
    layers = {"0": others}
    optimizer = {"options": others, "layer_options": layers}
    spec = parse({"options": options, "optimizer": optimizer})
    arrived = JobSpec.FromString(spec.SerializeToString())
    for settings in (to_settings(arrived), only_given(arrived)):
        assert exactly(settings.get("options", {})) == exactly(options)
        assert exactly(settings["optimizer"].get("options", {})) == exactly(others)
        assert exactly(settings["optimizer"]["layer_options"]) == exactly(layers)
    assert exactly(decode(arrived).options) == exactly(options)
    assert parse(to_settings(arrived)).exact_numbers == spec.exact_numbers


@given(options=OPTIONS)
def test_they_survive_job_yaml(tmp_path_factory: pytest.TempPathFactory, options: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "exact.yaml"
    path.write_text(to_yaml(parse({"task": "digits", "options": options})), encoding="utf-8")
    assert exactly(read_recorded(path)["options"]) == exactly(options)


def test_others_see_numbers_as_before() -> None:
    """JSON, and clients that know nothing of exact_numbers."""
    spec = parse({"options": {"scale": 1.0, "width": 8, "big": 2**53 + 1}})
    shown = json_format.MessageToDict(spec, preserving_proto_field_name=True)
    assert shown["options"] == {"scale": 1, "width": 8, "big": 2.0**53}
    assert set(spec.exact_numbers) == {"/options/scale", "/options/big"}
    foreign = json_format.ParseDict({"options": {"scale": 1.0, "half": 0.5}}, JobSpec())
    assert exactly(to_settings(foreign)["options"]) == exactly({"scale": 1, "half": 0.5})


@pytest.mark.parametrize("note", ["2.0", "true", '"1"', "nan", "9" * 5000, "[1]", "", "1e999"])
def test_a_note_that_does_not_fit_its_number_is_ignored(note: str) -> None:
    spec = parse({"options": {"scale": 1}})
    spec.exact_numbers["/options/scale"] = note
    spec.exact_numbers["/options/none"] = "1.0"
    assert exactly(to_settings(spec)["options"]) == exactly({"scale": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "options.x: nan is not a finite number"),
        (10**400, "options.x: 1000.* is not a finite number"),
        ([1, {2, 3}], "options.x.1: a set cannot be an option"),
        ({True: 1}, "options.x: True cannot be the name of an option"),
        (b"x", "options.x: a bytes cannot be an option"),
        ("\udce9", r"options.x: '\\udce9' is not UTF-8 text"),
    ],
)
def test_what_no_option_can_be_is_named(value: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        parse({"options": {"x": value}})


def test_numbers_of_numpy_and_numbers_as_names_are_taken() -> None:
    spec = parse({"options": {"n": np.int64(3), "x": np.float32(0.5), "t": (1, 2)}})
    assert exactly(to_settings(spec)["options"]) == exactly({"n": 3, "x": 0.5, "t": [1, 2]})
    layers = {"layer_options": {0: {"weight_decay": 5e-4}}}
    assert to_settings(parse({"optimizer": layers}))["optimizer"]["layer_options"] == {
        "0": {"weight_decay": 5e-4}
    }


def test_a_fingerprint_is_equal_to_that_of_an_older_run() -> None:
    """It kept 1.0 as 1."""
    new = fingerprint(resolve("digits", {"optimizer": {"options": {"eps": 1.0}}}).spec)
    assert new["optimizer"]["options"] == {"eps": 1}


TYPED = """
from torch import nn
from dfa_tasks import Task

def make(whole: int = 1, real: float = 1.0, flag: bool = False, name: str = "",
         maybe: int | None = 3, either: int | float = 1, free=1.0, unknown: "NotThere" = 1):
    raise ValueError(repr((whole, real, flag, name, maybe, either, free)))

def typed(whole: int = 1, real: float = 1.0, flag: bool = False, name: str = "",
          maybe: int | None = 3, either: int | float = 1, free=1.0):
    raise ValueError(repr((whole, real, flag, name, maybe, either, free)))
"""


@pytest.fixture
def typed(tmp_path: Path) -> str:
    (tmp_path / "typed.py").write_text(TYPED)
    return f"{tmp_path}/typed.py"


@pytest.mark.parametrize(
    ("option", "seen"),
    [
        ("whole=2.0", "(2, 1.0,"), ("whole=1e3", "(1000, 1.0,"), ("real=2", "(1, 2.0,"),
        ("real=1e-4", "(1, 0.0001,"), ("flag=true", "(1, 1.0, True"), ("name=no", "'no'"),
        ("name='7'", "'7'"), ("maybe=null", "'', None"), ("maybe=4.0", "'', 4,"),
        ("either=2.0", "3, 2.0, 1.0)"), ("either=2", "3, 2, 1.0)"), ("free=7.0", "1, 7.0)"),
        ("free=7", "1, 7)"), ("whole=9007199254740993", "(9007199254740993,"),
    ],
)  # fmt: skip
def test_a_function_gets_what_its_annotations_say(typed: str, option: str, seen: str) -> None:
    with pytest.raises(JobError) as shown:
        resolve(f"{typed}:typed", assignment(f"options.{option}"))
    assert seen in str(shown.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("whole=1.5", "options.whole: 1.5 is not a whole number"),
        ("whole=yes", "options.whole: 'yes' is not a whole number"),
        ("whole=true", "options.whole: True is not a whole number"),
        ("whole=null", "options.whole: None is not a whole number"),
        ("real=no", "options.real: 'no' is not a number"),
        ("flag=yes", "options.flag: 'yes' is not true or false"),
        ("flag=1", "options.flag: 1 is not true or false"),
        ("name=7", "options.name: 7 is not a text; put it in quotes"),
        ("maybe=x", "options.maybe: 'x' is not a whole number"),
    ],
)
def test_what_an_annotation_forbids_is_refused(typed: str, option: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        resolve(f"{typed}:typed", assignment(f"options.{option}"))


def test_installed_tasks_get_what_they_annotate() -> None:
    assert resolve("digits", assignment("options.width=32.0")).task.model is not None
    with pytest.raises(JobError, match=r"options.width: 32\.5 is not a whole number"):
        resolve("digits", assignment("options.width=32.5"))


def test_an_annotation_that_cannot_be_read_forbids_nothing(typed: str) -> None:
    with pytest.raises(JobError, match=r"\(2\.0, 1\.0"):
        resolve(f"{typed}:make", assignment("options.whole=2.0"))
