"""Reads and writes YAML 1.2: numbers and truth values are those of its core schema.

PyYAML follows YAML 1.1, where 1e-4 is a text, `no` and `off` are false, 0123 is 83 and 1:30 is 90.
"""

import json
import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_DIRECTIVE = "%YAML 1.2"
# tag, form, first characters
_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Resolves plain texts by the core schema, and refuses a key that appears twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # none of YAML 1.1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if (key.tag, key.value) in seen:
                    what = f"the key '{key.value}' appears twice"
                    raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
                seen.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _Dumper(yaml.SafeDumper):
    """Puts quotes around a text that YAML 1.1 or the core schema takes for something else."""


def _whole(loader: yaml.SafeLoader, node: Any) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


def _real(loader: yaml.SafeLoader, node: Any) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _name, _form, _first in _SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_form})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _whole)
_Loader.add_constructor(f"{_TAG}float", _real)


def load(text: str) -> Any:
    """Return what a YAML text holds. Raises ValueError, with one line, for an invalid one."""
    try:
        found = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
        json.dumps(found, default=str, skipkeys=True)  # raises for what contains itself
    except RecursionError as error:
        raise ValueError("it is nested too deeply, or contains itself") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return found


def load_recorded(text: str) -> Any:
    """Return what dump() wrote, or PyYAML's own safe_dump() in older versions. Raises as load()."""
    if text.startswith(_DIRECTIVE):
        return load(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def dump(mapping: Any) -> str:
    """Return YAML text that says that it is YAML 1.2."""
    text: str = yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, version=(1, 2))
    return text
