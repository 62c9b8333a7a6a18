"""Reads quantities from flags: numbers with a unit, and lists of numbers."""

import re

from coordinator.job.spec import whole_numbers
from dfa_core import JobError

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

_BITS = {"b/s": 1.0, "kb/s": 1e3, "mb/s": 1e6, "gb/s": 1e9, "tb/s": 1e12}


def doubling(name: str, text: str) -> list[int]:
    """Read `1,2,4,...,64`: the dots continue by doubling. Raises JobError for anything else."""
    before, dots, after = text.partition("...")
    if not dots:
        return whole_numbers(name, text)
    found = whole_numbers(name, before.strip(" ,"))
    last = max(whole_numbers(name, after.strip(" ,")))
    while found[-1] * 2 < last:
        found.append(found[-1] * 2)
    return sorted({*found, last})


def bits_per_second(name: str, text: str) -> float:
    """Read `100Gb/s`. Raises JobError for anything else."""
    return _quantity(name, text, _BITS, "100Gb/s")


def seconds(name: str, text: str) -> float:
    """Read `5us`. Raises JobError for anything else."""
    return _quantity(name, text, _SECONDS, "5us")


def _quantity(name: str, text: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*([a-zA-Z/]+)\s*", text)
    unit = units.get(match[2].lower()) if match else None
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if unit is None or value <= 0:
        raise JobError(f"{name}: '{text}' must be a number and a unit, such as {example}")
    return value * unit
