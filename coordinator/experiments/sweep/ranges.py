"""The ranges of a sweep: `--over optimizer.lr=1e-4..1e-2:log`, `--over feedback.scale=0.3,1,3`."""

import re
from dataclasses import dataclass
from functools import partial
from math import exp, floor, log
from typing import Any, TypeAlias

from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.descriptor import FieldDescriptor

from coordinator.job import yaml_core
from coordinator.job.spec import Settings, parse
from dfa_core import JobError

_INTERVAL = re.compile(r"(?P<low>\S+?)\.\.(?P<high>\S+?)(?P<log>:log)?")
_WHOLE = re.compile(r"[-+]?[0-9]+")
_WHOLE_TYPES = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
_FORMS = "optimizer.lr=1e-4..1e-2:log, batch_size=16..64 or feedback.scale=0.3,1,3"
# what trials cannot differ in, and what to do
_FIXED = {
    "task": "name one task",
    "method": "name the methods with --method",
    "epochs": "all trials have the same budget: set it with --epochs",
    **dict.fromkeys(
        (
            *("blocks", "replicas", "heads", "resources", "checkpoint", "data_dir"),
            *("working_dir", "log_every", "faults", "stopping"),
        ),
        "a sweep does not vary it: set it for all trials with --set",
    ),
}


@dataclass(frozen=True)
class Interval:
    """Numbers from low to high, both included.

    whole: whole numbers alone. log: uniform in the logarithm. Other numbers than whole ones have
    four digits, so that a table shows exactly what was trained.
    """

    low: float
    high: float
    whole: bool
    log: bool

    @property
    def size(self) -> float:
        """Return how many values there are: infinity, unless they are whole."""
        return self.high - self.low + 1 if self.whole else float("inf")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the values that must be valid, if all are to be."""
        return (self.low, self.high)

    def draw(self, share: float) -> int | float:
        """Return the value at a share of the range, from 0 to below 1."""
        low, high = (self.low, self.high + 1) if self.whole else (self.low, self.high)
        if self.log:
            found = exp(log(low) + share * (log(high) - log(low)))
        else:
            found = low + share * (high - low)
        found = floor(found) if self.whole else float(f"{found:.4g}")
        return type(self.low)(min(max(found, self.low), self.high))


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]

    @property
    def size(self) -> float:
        """Return how many values there are."""
        return len(self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return all values."""
        return self.values

    @property
    def log(self) -> bool:
        """Return False: a choice has no scale."""
        return False

    def draw(self, share: float) -> Any:
        """Return the value at a share of the list, from 0 to below 1."""
        return self.values[int(share * len(self.values))]


Range: TypeAlias = Interval | Choice


def nested(field: str, value: Any) -> Settings:
    """Return the settings that give `optimizer.lr` a value."""
    settings = value
    for name in reversed(field.split(".")):
        settings = {name: settings}
    return dict(settings)


def read_range(text: str) -> tuple[str, Range]:
    """Read FIELD=RANGE; return the field and the range.

    Raises JobError for another form, an unknown field, one that trials cannot differ in, or a range
    that does not suit the field.
    """
    field, equals, what = (part.strip() for part in text.partition("="))
    wrong = partial(_wrong, text)
    if not equals or not what or not all(field.split(".")):
        raise wrong(f"it must look like {_FORMS}")
    fixed = _FIXED.get(field.split(".")[0])
    if fixed is not None:
        raise wrong(fixed)
    found = _INTERVAL.fullmatch(what)
    if found is None and (".." in what or what.endswith(":log")):
        raise wrong("a range is two numbers, such as 1e-4..1e-2 or 1e-4..1e-2:log")
    chosen: Range
    chosen = _choice(what, wrong) if found is None else _interval(field, found, wrong)
    for value in chosen.ends:
        try:
            parse(nested(field, value))
        except JobError as error:
            raise wrong(str(error)) from error
    return field, chosen


def _wrong(text: str, why: str) -> JobError:
    return JobError(f"--over {text}: {why}")


def _choice(what: str, wrong: Any) -> Choice:
    try:
        values = yaml_core.load(f"[{what}]")
    except ValueError as error:
        raise wrong(f"the values are not valid YAML: {error}") from error
    if len(values) < 2:
        raise wrong("one value is no choice; give several (0.3,1,3) or a range (0.3..3), or --set")
    if any(value in values[:index] for index, value in enumerate(values)):
        raise wrong("a value appears twice")
    return Choice(tuple(values))


def _interval(field: str, found: re.Match[str], wrong: Any) -> Interval:
    texts = found["low"], found["high"]
    as_log = found["log"] is not None
    try:
        low, high = (int(text) if _WHOLE.fullmatch(text) else float(text) for text in texts)
    except ValueError as error:
        raise wrong(f"{texts[0]} and {texts[1]} must be two numbers") from error
    if not float("-inf") < low < high < float("inf"):
        raise wrong(f"{texts[0]} must be below {texts[1]}, and both finite")
    if as_log and low <= 0:
        raise wrong(f"a log range must be above 0, and this one begins at {texts[0]}")
    whole = all(map(_WHOLE.fullmatch, texts)) and _holds_whole_numbers(field)
    if whole:
        return Interval(low, high, True, as_log)
    return Interval(float(low), float(high), False, as_log)


def _holds_whole_numbers(field: str) -> bool:
    """Return whether a field holds whole numbers; an option of a task does if both ends are."""
    message = JobSpec.DESCRIPTOR
    for name in field.split("."):
        found = message.fields_by_name.get(name)
        if found is None:
            return False  # parse() raises for it
        if found.message_type is None:
            return found.type in _WHOLE_TYPES
        message = found.message_type
        if message.full_name == "google.protobuf.Struct":
            return True
    return False
