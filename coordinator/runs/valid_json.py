"""JSON as its standard and most readers have it: without NaN and Infinity, which Python writes."""

import json
from collections.abc import Mapping
from math import isfinite, nan
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; a number that is NaN or infinite becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that were read from JSON, in which null is a NaN that JSON cannot hold."""
    return {name: nan if value is None else value for name, value in values.items()}
