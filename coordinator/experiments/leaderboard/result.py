"""The result file of a line: all facts of an entrant's runs, as plain data."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from coordinator.experiments.leaderboard.targets import Target
from dfa_core import JobError
from dfa_core.atomic_file import write_atomically
from dfa_speedup.workload import Configuration


@dataclass(frozen=True)
class Evaluated:
    """An evaluation: steps and seconds of training until then, and the test scores (NaN: None)."""

    step: int
    seconds: float
    scores: dict[str, float | None]


@dataclass
class SeedRun:
    """The run of one seed: its evaluations, in order."""

    seed: int
    evaluations: list[Evaluated] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """A configuration that was tried: milliseconds of its fastest step, or why it cannot run."""

    configuration: Configuration
    step_ms: float | None
    reason: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a line comes from.

    commit: of the code, empty outside a checkout. changed: whether the code differs from it.
    machine: as in bench.json.
    """

    commit: str
    changed: bool
    machine: dict[str, Any]


@dataclass(frozen=True)
class Reached:
    """How an entrant reached a bound: medians over the seeds, and how many of them did."""

    seconds: float
    steps: float
    seeds: int


@dataclass
class Result:
    """A line of a target, as far as it has come.

    job: the settings of the first seed. configuration: what it runs as; None while none was tried.
    runs: of the seeds that are over. failed: why it could not run, or ended.
    """

    format: Literal[1]
    target: str
    entrant: str
    kind: str
    job: dict[str, Any]
    score: str
    bounds: tuple[float, ...]
    every: int
    seeds: int
    workers: int
    origin: Origin
    date: str
    command: str
    tried: list[Tried] = field(default_factory=list)
    configuration: Configuration | None = None
    runs: list[SeedRun] = field(default_factory=list)
    failed: str = ""

    @property
    def finished(self) -> bool:
        """Return whether all its seeds are over."""
        return not self.failed and len(self.runs) == self.seeds

    def same(self, other: "Result") -> bool:
        """Return whether both are of the same job and target, however far each has come."""
        return self._identity() == other._identity()

    def _identity(self) -> tuple[Any, ...]:
        where = ("resources", "data_dir", "working_dir")  # that is no part of what was trained
        job = {name: value for name, value in self.job.items() if name not in where}
        threads = self.job["resources"]["threads"]
        target = self.target, self.score, self.bounds, self.every, self.seeds, self.workers
        return self.entrant, self.kind, job, threads, target

    def is_of(self, target: Target) -> bool:
        """Return whether it was trained to the bounds that the target has now."""
        then = self.score, self.bounds, self.every, self.workers
        return then == (target.score, target.bounds, target.every, target.workers)

    def reached(self, target: Target, bound: float) -> Reached | None:
        """Return when it reached a bound; None where the median run never did, or it failed."""
        if self.failed or not self.runs:
            return None
        firsts = self._firsts(target, bound)
        never = float("inf")
        seconds = median(never if first is None else first.seconds for first in firsts)
        steps = median(never if first is None else first.step for first in firsts)
        if seconds == never:
            return None
        return Reached(seconds, steps, sum(first is not None for first in firsts))

    def seeds_that_reach(self, target: Target, bound: float) -> int:
        """Return how many of its runs reached a bound."""
        return sum(first is not None for first in self._firsts(target, bound))

    def _firsts(self, target: Target, bound: float) -> list[Evaluated | None]:
        """Return the first evaluation of each run that reaches a bound."""
        return [
            next((e for e in run.evaluations if target.reaches(e.scores[self.score], bound)), None)
            for run in self.runs
        ]

    def best(self) -> tuple[float, float] | None:
        """Return the best score of all runs, and the seconds of the longest; None without any."""
        ended = [run.evaluations[-1].seconds for run in self.runs if run.evaluations]
        found = [e.scores[self.score] for run in self.runs for e in run.evaluations]
        values = [value for value in found if value is not None]
        if not values:
            return None
        return (min(values) if self.score == "loss" else max(values)), max(ended)


_RESULT = TypeAdapter(Result)


@dataclass(frozen=True)
class Results:
    """A folder of result files, one for each target and entrant."""

    folder: Path

    def path(self, target: str, entrant: str) -> Path:
        """Return the file of a line."""
        return self.folder / f"{target}-{entrant}.json"

    def read(self, target: str, entrant: str) -> Result | None:
        """Return a line, or None if there is none. Raises JobError if it cannot be read."""
        file = self.path(target, entrant)
        try:
            return _RESULT.validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            why = " ".join(str(error).split())[:200]
            raise JobError(f"{file} cannot be read: {why}; remove it to run it again") from error

    def write(self, result: Result) -> None:
        """Write a line as far as it has come. Raises OSError."""
        text = _RESULT.dump_json(result, indent=1)
        write_atomically(self.path(result.target, result.entrant), text + b"\n")


def today() -> str:
    """Return the date, as in 2026-11-29."""
    return time.strftime("%Y-%m-%d")
