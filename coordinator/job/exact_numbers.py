"""Keeps the numbers of options as they were given.

Options travel in a google.protobuf.Struct, which holds every number as a double: it cannot tell 1.0
from 1, and loses the last digits of a large integer. JobSpec.exact_numbers notes such numbers
next to it, by their place (a JSON pointer: /optimizer/options/eps), as JSON text. The Struct stays
what other clients read and write; a note that does not fit its number is ignored.
"""

import json
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from errorcast.v1.job_pb2 import JobSpec

from dfa_core.errors import JobError

FIELD = "exact_numbers"
_STRUCTS = (("options",), ("optimizer", "options"), ("optimizer", "layer_options"))
_LARGEST = 2**53  # a double holds each integer up to this
_LONGEST = 400  # characters of a note: no double has more digits before its point


def plain(value: Any, path: str) -> Any:
    """Return options as dictionaries, lists, texts, numbers and truth values.

    Keys become texts, as `0` in `layer_options: {0: {...}}`. Raises JobError, with the path, for
    anything else.
    """
    if isinstance(value, Mapping):
        wrong = [key for key in value if isinstance(key, bool) or not isinstance(key, str | int)]
        if wrong:
            raise JobError(f"{path}: {wrong[0]!r} cannot be the name of an option")
        each = {readable(str(key), path): one for key, one in value.items()}
        return {key: plain(one, f"{path}.{key}") for key, one in each.items()}
    if isinstance(value, list | tuple):
        return [plain(each, f"{path}.{index}") for index, each in enumerate(value)]
    if isinstance(value, str):
        return readable(value, path)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Real):
        number: int | float = int(value) if isinstance(value, Integral) else float(value)
        if not _is_finite(number):
            raise JobError(f"{path}: {value} is not a finite number")
        return number
    raise JobError(
        f"{path}: a {type(value).__name__} cannot be an option; give numbers, texts, true or "
        f"false, or lists of them"
    )


def readable(text: str, path: str) -> str:
    """Return a text. Raises JobError for one that UTF-8 cannot hold, such as an undecoded name."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise JobError(f"{path}: {text!r} is not UTF-8 text") from error
    return text


def note_exact(spec: JobSpec, checked: Mapping[str, Any]) -> None:
    """Note in the message the numbers of these settings that its Structs do not hold exactly."""
    for path in _STRUCTS:
        holder: Any = checked
        for name in path:
            holder = holder.get(name) or {}
        for place, number in _numbers(holder, "/" + "/".join(path)):
            if number.is_integer() if isinstance(number, float) else abs(number) > _LARGEST:
                spec.exact_numbers[place] = json.dumps(number)


def with_exact(full: dict[str, Any]) -> dict[str, Any]:
    """Return a message's JSON form with the numbers of its options as they were given.

    A whole number that nothing is noted of is an int.
    """
    notes, changed = full.get(FIELD, {}), {k: v for k, v in full.items() if k != FIELD}
    if "optimizer" in changed:
        changed["optimizer"] = dict(changed["optimizer"])
    for path in _STRUCTS:
        holder = changed if len(path) == 1 else changed.get(path[0], {})
        if path[-1] in holder:
            holder[path[-1]] = _restored(holder[path[-1]], "/" + "/".join(path), notes)
    return changed


def _numbers(value: Any, place: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _numbers(each, _below(place, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _numbers(each, _below(place, str(index)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def _restored(value: Any, place: str, notes: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {k: _restored(each, _below(place, k), notes) for k, each in value.items()}
    if isinstance(value, list):
        return [_restored(each, _below(place, str(i)), notes) for i, each in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    noted = _noted(notes.get(place, ""))
    if noted is not None and float(noted) == value:
        return noted
    return int(value) if float(value).is_integer() and abs(value) <= _LARGEST else float(value)


def _noted(text: str) -> int | float | None:
    try:
        number = json.loads(text) if len(text) <= _LONGEST else None
    except ValueError:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return number if _is_finite(number) else None


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the doubles
        return False


def _below(place: str, name: str) -> str:
    return f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
