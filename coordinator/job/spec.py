"""Turns settings (YAML, flags, `--set`, Python) into a JobSpec message, and back.

Settings are nested dictionaries with the field names of job.proto; enums are lower-case names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from math import isfinite
from numbers import Integral
from pathlib import Path, PurePath
from typing import Any

from errorcast.v1.job_pb2 import JobSpec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from coordinator.job import yaml_core
from coordinator.job.exact_numbers import FIELD, note_exact, plain, readable, with_exact
from dfa_core.errors import JobError
from dfa_core.names import nearest

Settings = dict[str, Any]

_STRUCT = "google.protobuf.Struct"
_OPTIONS = ("options", "layer_options")
_PATHS = (
    "task",
    "data_dir",
    "checkpoint.path",
    "working_dir",
    "init",
)  # `~` is the user's home in them
_WHOLE = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)


def merge(*layers: Mapping[str, Any]) -> Settings:
    """Merge settings field by field; later ones override earlier ones.

    Options belong to the optimizer that they were given for: another optimizer's name drops them.
    """
    result: Settings = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                if key == "optimizer" and value.get("name", below.get("name")) != below.get("name"):
                    below = {k: v for k, v in below.items() if k not in _OPTIONS}
                result[key] = merge(below, value)
            else:
                result[key] = merge(value) if isinstance(value, Mapping) else value
    return result


def parse(settings: Mapping[str, Any]) -> JobSpec:
    """Return the message. Raises JobError for an unknown field or a value of the wrong type."""
    checked = _checked(settings, JobSpec.DESCRIPTOR, "")
    try:
        spec = json_format.ParseDict(checked, JobSpec())
    except json_format.ParseError as error:
        raise JobError(f"job: {error}") from error
    note_exact(spec, checked)
    return spec


def to_settings(spec: JobSpec) -> Settings:
    """Return the settings that parse to this message: fields that are set, texts and options."""
    return _settings(spec, always_print_fields_with_no_presence=True)


def only_given(spec: JobSpec) -> Settings:
    """Return the settings that this message holds, without those that it leaves to the defaults."""
    return _settings(spec)


def _settings(spec: JobSpec, **form: Any) -> Settings:
    try:
        full: Settings = json_format.MessageToDict(spec, preserving_proto_field_name=True, **form)
    except json_format.Error as error:  # NaN in a Struct
        raise JobError(f"job: {error}") from error
    return _lowered(with_exact(full), JobSpec.DESCRIPTOR)


def read_yaml(path: Path, load: Callable[[str], Any] = yaml_core.load) -> Settings:
    """Read a job file. Raises JobError if it cannot be read or is not a mapping."""
    try:
        read = load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise JobError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(read, dict):
        raise JobError(
            f"{path}: must hold fields such as 'task: digits', not {type(read).__name__}"
        )
    return read


def read_recorded(path: Path) -> Settings:
    """Read the job.yaml of a run folder, also an older version's. Raises as read_yaml() does."""
    return read_yaml(path, yaml_core.load_recorded)


def to_yaml(spec: JobSpec) -> str:
    """Return the job as YAML, in the order of the message's fields."""
    return yaml_core.dump(to_settings(spec))


def assignment(text: str) -> Settings:
    """Turn `optimizer.lr=0.0005` into settings. Raises JobError if it does not have this form."""
    path, equals, value = text.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise JobError(f"--set {text}: must look like optimizer.lr=0.0005")
    try:
        settings: Any = yaml_core.load(value)
    except ValueError as error:
        raise JobError(f"--set {text}: the value is not valid YAML") from error
    for name in reversed(names):
        settings = {name: settings}
    return dict(settings)


def given(flags: Mapping[str, Any]) -> Settings:
    """Return the flags that were given; the others are None, and are dropped."""
    return {name: value for name, value in flags.items() if value is not None}


def from_flags(flags: Mapping[str, Any], assignments: Iterable[str] | None) -> Settings:
    """Return the settings of a command line: the flags that were given, then each `--set`."""
    return merge(given(flags), *(assignment(text) for text in assignments or ()))


def whole_numbers(name: str, text: str) -> list[int]:
    """Read `2,4,8`. Raises JobError if it is not a list of whole numbers above 0."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise JobError(f"{name}: '{text}' must be whole numbers above 0, such as 2,4,8")
    return sorted({int(part) for part in parts})


def fields_of(message: Descriptor) -> Iterator[FieldDescriptor]:
    """Yield the fields of a message that are settings."""
    return (field for field in message.fields if field.name != FIELD)


def enum_names(enum: EnumDescriptor) -> Iterator[str]:
    """Yield an enum's values as people write them: METHOD_DFA is `dfa`."""
    for value in enum.values[1:]:
        yield _short(value.name, enum)


def _short(value: str, enum: EnumDescriptor) -> str:
    return value.removeprefix(_prefix(enum)).lower()


def _prefix(enum: EnumDescriptor) -> str:
    words = "".join(f"_{c}" if c.isupper() else c for c in enum.name).lstrip("_")
    return f"{words.upper()}_"


def _checked(settings: Mapping[str, Any], message: Descriptor, path: str) -> Settings:
    """Return the settings as the message's JSON form; path: of the message, for errors."""
    result: Settings = {}
    fields = {field.name: field for field in fields_of(message)}
    for key, value in settings.items():
        field = fields.get(str(key))
        if field is None:
            known = list(fields)
            raise JobError(f"{path}{key}: unknown field; {nearest(str(key), known)}")
        if value is not None:
            read = _texts if field.is_repeated and field.message_type is None else _value
            result[str(key)] = read(value, field, f"{path}{key}")
    return result


def _value(value: Any, field: FieldDescriptor, path: str) -> Any:
    if field.message_type is not None:
        if not isinstance(value, Mapping):
            raise JobError(f"{path}: must hold fields of its own, not {value!r}")
        if field.message_type.full_name == _STRUCT:
            return plain(value, path)
        return _checked(value, field.message_type, f"{path}.")
    if field.enum_type is not None:
        names = list(enum_names(field.enum_type))
        if str(value).lower() not in names:
            raise JobError(f"{path}: unknown '{value}'; {nearest(str(value), names)}")
        return f"{_prefix(field.enum_type)}{str(value).upper()}"
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(value, path)
    if field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise JobError(f"{path}: {value!r} is not true or false")
        return value
    return _number(value, field, path)


def _texts(value: Any, _: FieldDescriptor, path: str) -> list[str]:
    if not isinstance(value, list | tuple):
        raise JobError(f"{path}: {value!r} must be a list, such as [{value}]")
    return [_text(one, path) for one in value]


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str | PurePath):
        raise JobError(f"{path}: {value!r} is not a text; put it in quotes")
    text = readable(str(value), path)
    if path not in _PATHS or not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise JobError(f"{path}: {text}: {error}") from error


def _number(value: Any, field: FieldDescriptor, path: str) -> int | float:
    try:
        number = _read_number(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number):
        raise JobError(f"{path}: {value!r} is not a finite number")
    if field.type not in _WHOLE:
        return float(number)
    bits = 64 if field.type == FieldDescriptor.TYPE_UINT64 else 32
    if number != int(number) or not 0 <= number < 2**bits:
        raise JobError(f"{path}: {value!r} is not a whole number from 0 up")
    return int(number)


def _read_number(value: Any) -> int | float:
    """Return a number, or what a text from a command line says, as exactly as it is given.

    Raises OverflowError for an integer beyond the doubles.
    """
    exact = isinstance(value, Integral)
    if isinstance(value, str):
        with suppress(ValueError):
            value, exact = int(value), True
    number = float(value)
    return int(value) if exact else number


def _lowered(settings: Settings, message: Descriptor) -> Settings:
    """Return settings from a message's JSON form: short names of enums, numbers as numbers."""
    result: Settings = {}
    for field in fields_of(message):
        value = settings.get(field.name)
        if field.message_type is not None:
            if field.message_type.full_name == _STRUCT:
                result[field.name] = value or {}
            else:
                result[field.name] = _lowered(value or {}, field.message_type)
        elif field.enum_type is not None:
            if value not in (None, field.enum_type.values[0].name):  # the first one means: not set
                result[field.name] = _short(str(value), field.enum_type)
        elif field.type in _WHOLE and value is not None:
            result[field.name] = int(value)  # 64-bit numbers are strings in JSON
        elif value is not None:
            result[field.name] = value
    return result
