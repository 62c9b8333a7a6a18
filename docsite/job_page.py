"""docs/reference/job.md: every field of a job, from job.proto and the general defaults."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.descriptor import Descriptor, FieldDescriptor

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
task has none. `--set` overrides flags, and flags override the job file. [Tasks](tasks.md) shows
what each task sets. A wrong field or value stops the run before step 0, with exit code 2 and one
line that says what to do. The file `job.yaml` in the run folder holds the complete job.
"""
_MORE = {
    "task": "[Tasks](tasks.md)",
    "options": "[Tasks](tasks.md)",
    "method": "[Choose how it learns](../how-to/method.md)",
    "blocks": "[Choose the workers](../how-to/workers.md)",
    "seed": "[Exactness](../concepts/exactness.md)",
    "data_dir": "[Bring data](../how-to/data.md)",
    "staleness": "[Delayed mode](../concepts/delayed.md)",
    "replicas": "[Replicas](../concepts/replicas.md)",
    "heads": "[Heads](../concepts/heads.md)",
    "init": "[Weights](../how-to/weights.md)",
    "frozen": "[Weights](../how-to/weights.md)",
    "ema": "[Weights](../how-to/weights.md)",
    "trackers": "[Trackers](../how-to/trackers.md)",
    "code": "[Send your own code](../how-to/send-code.md)",
    "optimizer": "[Choose how it learns](../how-to/method.md)",
    "feedback": "[The learning rule](../concepts/rule.md)",
    "resources": "[Choose the workers](../how-to/workers.md)",
    "checkpoint": "[Faults](../concepts/faults.md)",
    "faults": "[Faults](../concepts/faults.md)",
    "stopping": "[Weights](../how-to/weights.md)",
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
    fields = list(fields_of(JobSpec.DESCRIPTOR))
    groups = [field for field in fields if _is_group(field)]
    listed = ", ".join(f"[`{group.name}`](#{group.name})" for group in groups)
    parts = [
        _HEAD,
        "## The job\n",
        wrapped(f"Fields with fields of their own have a section each: {listed}."),
        _fields(JobSpec.DESCRIPTOR, "", comments, DEFAULTS),
    ]
    for group in groups:
        defaults = DEFAULTS.get(group.name, {})
        parts.append(f"## `{group.name}`\n")
        parts.append(wrapped(f"{comments[group.message_type.name]}{_more(group.name)}"))
        parts.append(_fields(group.message_type, f"{group.name}.", comments, defaults))
    return "\n".join(parts)


def _is_group(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name != _STRUCT


def _fields(
    message: Descriptor, path: str, comments: Mapping[str, str], defaults: Mapping[str, Any]
) -> str:
    """Return the table of a message's fields, and one for each field with named values.

    path: of the message in a job, with a dot at its end, or empty.
    """
    fields = [field for field in fields_of(message) if not _is_group(field)]
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
            parts.append(f"### Values of `{path}{field.name}`\n")
            parts.append(table(("value", "meaning"), _values(field, comments)))
    return "\n".join(parts)


def _values(field: FieldDescriptor, comments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    enum = field.enum_type
    for name, value in zip(enum_names(enum), enum.values[1:], strict=True):
        yield f"`{name}`", comments.get(f"{enum.name}.{value.name}", "")


def _type(field: FieldDescriptor, path: str) -> str:
    if field.enum_type is not None:
        names = ", ".join(f"`{name}`" for name in enum_names(field.enum_type))
        return f"one of [{names}](#values-of-{_anchor(path, field)})"
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


def _anchor(path: str, field: FieldDescriptor) -> str:
    return f"{path}{field.name}".replace(".", "")


def _more(name: str) -> str:
    return f" See {_MORE[name]}." if name in _MORE else ""


def _as_written(text: str) -> str:
    """Return a comment with the names that people write: METHOD_BP is `method: bp`."""
    for path, field in _enum_fields(JobSpec.DESCRIPTOR, ""):
        for name, value in zip(
            enum_names(field.enum_type), field.enum_type.values[1:], strict=True
        ):
            text = re.sub(rf"\b{value.name}\b", f"`{path}: {name}`", text)
    for group in fields_of(JobSpec.DESCRIPTOR):
        if _is_group(group):
            text = re.sub(rf"\b{group.message_type.name}\.(\w+)", rf"`{group.name}.\1`", text)
    return text


def _enum_fields(message: Descriptor, path: str) -> Iterator[tuple[str, FieldDescriptor]]:
    for field in fields_of(message):
        if field.enum_type is not None:
            yield f"{path}{field.name}", field
        elif _is_group(field):
            yield from _enum_fields(field.message_type, f"{field.name}.")
