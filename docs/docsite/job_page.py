"""docs/reference/job.md: every field of a job, from job.proto and the general defaults."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from coordinator.job.settings import DEFAULTS
from coordinator.job.spec import enum_names, fields_of
from docsite.markdown import table, wrapped
from docsite.proto_comments import comments_of

_HEAD = """# Job file

This page lists every field of a job: its name, type, default and meaning. It is for readers who
write a job file, use `--set`, or call `errorcast.train()`.

A job file is YAML. Only `task` is required:

```yaml
task: digits
options:
  width: 128
blocks: 2
epochs: 5
optimizer:
  name: adam
  lr: 0.001
  schedule: cosine
```

You can give the same fields in four ways:

| where | example |
|---|---|
| job file | `errorcast train job.yaml` |
| [flag](cli.md#errorcast-train), for common fields | `errorcast train digits --blocks 2` |
| any field on the command line | `errorcast train digits --set optimizer.lr=0.001` |
| Python | `errorcast.train("digits", blocks=2, optimizer={"lr": 0.001})` |

A field that you do not give takes the default of the task, or the general default below if the
task has none. `--set` overrides flags, and flags override the job file.
[Installed tasks and job files](tasks.md) shows what each task sets. A wrong field or value stops
the run before step 0, with exit code 2 and one line that says what to do. The file `job.yaml` in
the run folder holds the complete job.
"""
_MORE = {
    "task": "[Installed tasks and job files](tasks.md)",
    "options": "[Installed tasks and job files](tasks.md)",
    "method": "[Choose method and feedback](../how-to/method.md)",
    "blocks": "[Choose the workers](../how-to/workers.md)",
    "seed": "[Exactness](../concepts/exactness.md)",
    "data_dir": "[Bring your data](../how-to/data.md)",
    "staleness": "[Delayed mode](../concepts/delayed.md)",
    "replicas": "[Replicas](../concepts/replicas.md)",
    "heads": "[The head and where it runs](../concepts/heads.md)",
    "init": "[Start from weights, freeze, average, export](../how-to/weights.md)",
    "frozen": "[Start from weights, freeze, average, export](../how-to/weights.md)",
    "ema": "[Start from weights, freeze, average, export](../how-to/weights.md)",
    "trackers": "[Send metrics to Weights & Biases or MLflow](../how-to/trackers.md)",
    "code": "[Send your own task](../how-to/send-code.md)",
    "optimizer": "[Choose method and feedback](../how-to/method.md)",
    "feedback": "[The learning rule](../concepts/rule.md)",
    "resources": "[Choose the workers](../how-to/workers.md)",
    "checkpoint": "[Faults and recovery](../concepts/faults.md)",
    "faults": "[Faults and recovery](../concepts/faults.md)",
    "stopping": "[Start from weights, freeze, average, export](../how-to/weights.md)",
}
_STRUCT = "google.protobuf.Struct"
_TYPES = {
    FieldDescriptor.TYPE_BOOL: "`true` or `false`",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_UINT32: "whole number",
    FieldDescriptor.TYPE_UINT64: "whole number",
}


def job_page() -> str:
    """Return the page as Markdown."""
    comments = {
        name: _as_written(text) for name, text in comments_of("errorcast/v1/job.proto").items()
    }
    groups = dict(_groups(JobSpec.DESCRIPTOR))
    listed = ", ".join(f"[`{name}`](#{name})" for name in groups)
    parts = [
        _HEAD,
        "## The job\n",
        wrapped(f"Fields with fields of their own have a section each: {listed}."),
        _fields(JobSpec.DESCRIPTOR, "", comments, DEFAULTS),
    ]
    for name, message in groups.items():
        parts.append(f"## `{name}`\n")
        parts.append(wrapped(f"{comments[message.name]}{_more(name)}"))
        parts.append(_fields(message, f"{name}.", comments, DEFAULTS.get(name, {})))
    return "\n".join(parts)


def _groups(message: Descriptor) -> Iterator[tuple[str, Descriptor]]:
    """Yield the fields that have fields of their own, with their messages."""
    for field in fields_of(message):
        if field.message_type is not None and field.message_type.full_name != _STRUCT:
            yield field.name, field.message_type


def _fields(
    message: Descriptor, path: str, comments: Mapping[str, str], defaults: Mapping[str, Any]
) -> str:
    """Return the table of a message's fields, and one for each field with named values.

    path: of the message in a job, with a dot at its end, or empty.
    """
    groups = dict(_groups(message))
    fields = [field for field in fields_of(message) if field.name not in groups]
    rows = [
        (
            f"`{path}{field.name}`",
            _type(field, path),
            _default(field, defaults),
            comments[f"{message.name}.{field.name}"] + ("" if path else _more(field.name)),
        )
        for field in fields
    ]
    parts = [table(("field", "type", "default", "meaning"), rows)]
    for field in fields:
        if field.enum_type is not None:
            enum = field.enum_type
            values = [
                (f"`{written}`", comments[f"{enum.name}.{name}"]) for written, name in _values(enum)
            ]
            parts.append(f"### Values of `{path}{field.name}`\n")
            parts.append(table(("value", "meaning"), values))
    return "\n".join(parts)


def _values(enum: EnumDescriptor) -> Iterator[tuple[str, str]]:
    """Yield an enum's values as people write them, each with its name in the .proto."""
    yield from zip(enum_names(enum), (value.name for value in enum.values[1:]), strict=True)


def _type(field: FieldDescriptor, path: str) -> str:
    if field.enum_type is not None:
        names = ", ".join(f"`{written}`" for written, _ in _values(field.enum_type))
        anchor = f"values-of-{path}{field.name}".replace(".", "")
        return f"one of [{names}](#{anchor})"
    if field.message_type is not None:
        return "mapping"
    name = _TYPES[field.type]
    return f"list of {name}s" if field.is_repeated else name


def _default(field: FieldDescriptor, defaults: Mapping[str, Any]) -> str:
    """Return a field's general default as YAML."""
    if field.name not in defaults:
        return "*required*" if field.full_name == "errorcast.v1.JobSpec.task" else "empty"
    value = yaml.safe_dump(defaults[field.name], default_flow_style=True)
    return f"`{value.removesuffix('...').strip().removesuffix('...').strip()}`"


def _more(name: str) -> str:
    return f" See {_MORE[name]}." if name in _MORE else ""


def _as_written(text: str) -> str:
    """Return a comment with the names that people write: METHOD_BP is `method: bp`."""
    for path, enum in _enums(JobSpec.DESCRIPTOR, ""):
        for written, name in _values(enum):
            text = re.sub(rf"\b{name}\b", f"`{path}: {written}`", text)
    for group, message in _groups(JobSpec.DESCRIPTOR):
        text = re.sub(rf"\b{message.name}\.(\w+)", rf"`{group}.\1`", text)
    return text


def _enums(message: Descriptor, path: str) -> Iterator[tuple[str, EnumDescriptor]]:
    """Yield each field with named values by its path in a job."""
    for field in fields_of(message):
        if field.enum_type is not None:
            yield f"{path}{field.name}", field.enum_type
    for name, group in _groups(message):
        yield from _enums(group, f"{path}{name}.")
