"""Checks the options of a task, and reads the default settings of a family."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.resources import files
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from dfa_core import JobError
from dfa_core.names import nearest

_BASIC = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check_options(task: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise JobError for an option that the task does not have."""
    known = list(known)
    for option in given:
        if option not in known:
            raise JobError(f"options: task '{task}' has no '{option}'; {nearest(option, known)}")


def typed_options(given: Mapping[str, Any], maker: Callable[..., Any]) -> dict[str, Any]:
    """Return the options as the task's function wants them by its annotations.

    A whole number such as 1.0 is an int where an int is wanted, and 1 is a float where a float is.
    What is not annotated as int, float, bool or str (or one of them or None) stays as it is given.

    Raises JobError for a value of another type.
    """
    while isinstance(maker, partial):
        maker = maker.func
    try:
        wanted = get_type_hints(maker)
    except Exception:  # noqa: BLE001  # an annotation that names what is not there
        wanted = {}
    return {name: _fitting(name, value, wanted.get(name)) for name, value in given.items()}


def _fitting(name: str, value: Any, wanted: Any) -> Any:
    """Return a value as one of the basic types that an annotation allows, or as it is."""
    is_union = isinstance(wanted, UnionType) or get_origin(wanted) is Union
    arms = get_args(wanted) if is_union else (wanted,)
    if not set(arms) <= {*_BASIC, type(None)} or type(value) in arms:
        return value
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is not None and int in arms and number == int(number):
        return int(number)
    if number is not None and float in arms and float(number) == number:
        return float(number)
    names = [_BASIC[arm] for arm in arms if arm in _BASIC]
    hint = "; put it in quotes" if str in arms else ""
    raise JobError(f"options.{name}: {value!r} is not {' or '.join(names)}{hint}")


def settings_of(family: str) -> dict[str, Any]:
    """Return the content of settings/FAMILY.yaml."""
    text = files("dfa_tasks").joinpath(f"settings/{family}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
