"""The dataclasses of settings against the message that they are decoded from."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.descriptor import Descriptor

from coordinator.job.resolve import resolve
from coordinator.job.settings import DEFAULTS, JobSettings, decode
from coordinator.job.spec import enum_names, fields_of, parse
from dfa_core.exact_schedule import ExactSchedule
from dfa_core.feedback.error_format import ErrorKind
from dfa_core.feedback.matrix import Distribution
from dfa_core.feedback.rules import FeedbackKind
from dfa_core.optimizer import Schedule
from dfa_core.precision import Precision
from dfa_core.rule import Method
from workers.grid import AskedPlace
from workers.groups.transport import Transport
from workers.placement import Strategy

TYPES: dict[str, Any] = {
    "ErrorKind": ErrorKind,
    "ExactSchedule": ExactSchedule,
    "Distribution": Distribution,
    "FeedbackKind": FeedbackKind,
    "Schedule": Schedule,
    "Precision": Precision,
    "Method": Method,
    "Strategy": Strategy,
    "Transport": Transport,
    "AskedPlace": AskedPlace,
}


def check_fields(group: type[Any], message: Descriptor) -> None:
    """The same names in the same order; the same values of enums."""
    assert [field.name for field in fields(group)] == [field.name for field in fields_of(message)]
    types = get_type_hints(group, localns=TYPES)
    for field in fields_of(message):
        if is_dataclass(types[field.name]):
            check_fields(types[field.name], field.message_type)
        if field.enum_type is not None:
            names: set[Any] = set()
            for arm in get_args(types[field.name]):
                names |= {arm} if isinstance(arm, str) else set(get_args(arm))
            assert names == set(enum_names(field.enum_type)), field.name


def test_settings_have_the_fields_and_the_values_of_the_message() -> None:
    check_fields(JobSettings, JobSpec.DESCRIPTOR)


def test_the_defaults_decode_as_the_dataclasses_state_them() -> None:
    assert decode(parse(DEFAULTS)) == JobSettings()
    assert decode(JobSpec()) == JobSettings()


def test_a_partial_message_decodes_with_defaults() -> None:
    settings = decode(parse({"task": "digits", "seed": 2**63, "feedback": {"scale": 2}}))
    assert (settings.task, settings.seed, settings.feedback.scale) == ("digits", 2**63, 2.0)
    assert settings.feedback.kind == "random"
    assert settings.blocks == JobSettings().blocks


def test_a_job_has_the_settings_of_its_spec() -> None:
    given = {"method": "bp", "resources": {"cpus": 2.5}, "optimizer": {"options": {"eps": 1}}}
    job = resolve("digits", given)
    assert job.settings == decode(job.spec)
    assert (job.method, job.settings.resources.threads) == ("bp", 2)
    assert job.rule(steps_per_epoch=1).optimizer.options == {"eps": 1}
