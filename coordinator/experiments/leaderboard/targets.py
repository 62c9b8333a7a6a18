"""The targets of a board, and who competes for each: what targets.yaml says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from coordinator.experiments.contender import reaches
from coordinator.experiments.method_comparison import METHODS
from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import Settings, merge, read_yaml
from dfa_core import JobError
from dfa_core.names import nearest
from dfa_speedup import peers

OURS = Path(__file__).with_name("targets.yaml")

ONE_PROCESS = "one-process"
# what torch runs, each by the fastest of its schedules here
_PEERS: Mapping[str, Sequence[str]] = {
    "pipeline": tuple(peers.EAGER_PIPELINES),
    "ddp": (peers.DDP,),
    ONE_PROCESS: (peers.ONE_PROCESS,),
}
_OWN_BP = {
    "bp": tuple(name for name in peers.OWN_BACKWARD if name != peers.DELAYED),
    "bp-delayed": (peers.DELAYED,),
}
KINDS: Mapping[str, Settings] = {**METHODS, **dict.fromkeys(_PEERS, METHODS["bp"])}


@dataclass(frozen=True)
class Entrant:
    """Who competes for a target.

    name: of its line. kind: a method of errorcast, or what torch runs: one of KINDS.
    settings: its own, over those of the target.
    """

    name: str
    kind: str
    settings: Settings

    @property
    def by_torch(self) -> bool:
        """Return whether torch trains it, and not errorcast."""
        return self.kind in _PEERS

    @property
    def passes_back(self) -> bool:
        """Return whether it is backpropagation, whoever runs it."""
        return bool(KINDS[self.kind]["method"] == "bp")

    @property
    def schedules(self) -> Sequence[str]:
        """Return what it may run as, by the names of dfa_speedup/peers.py."""
        return {**_PEERS, **_OWN_BP}.get(self.kind, (peers.ERRORCAST,))


@dataclass(frozen=True)
class Target:
    """A test score to reach.

    title: what is trained, in words.
    bounds: the values of the score, the easiest first; each gets a table of its own.
    every: steps between two evaluations.
    seeds: number of runs of each entrant; a line has their medians.
    workers: of each entrant. microbatches: numbers to try; each entrant uses its fastest.
    settings: of the job of every entrant. entrants: settings of each, and `kind` where its name is
        not one of KINDS.
    chosen: how the settings of the entrants were chosen.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str
    task: str
    score: str
    bounds: tuple[float, ...]
    every: int
    seeds: int
    workers: int
    microbatches: tuple[int, ...]
    entrants: dict[str, dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    chosen: str = ""

    def __post_init__(self) -> None:
        falls = self.score == "loss"
        if not self.bounds or list(self.bounds) != sorted(self.bounds, reverse=falls):
            raise ValueError("bounds: name at least one, the easiest first")
        if not self.microbatches or min(self.every, self.seeds, self.workers) < 1:
            raise ValueError("every, seeds, workers, microbatches: each must be at least 1")

    def entrant(self, name: str) -> Entrant:
        """Return one of the entrants. Raises JobError for a name or a kind that there is not."""
        if name not in self.entrants:
            raise JobError(f"--methods: unknown '{name}'; {nearest(name, self.entrants)}")
        own = dict(self.entrants[name])
        kind = str(own.pop("kind", name))
        if kind not in KINDS:
            raise JobError(f"entrant {name}: unknown kind '{kind}'; {nearest(kind, KINDS)}")
        return Entrant(name, kind, own)

    def job(self, entrant: Entrant, seed: int, given: Mapping[str, Any]) -> Job:
        """Return the job of an entrant. Raises JobError where it, or the target's score, is wrong.

        given: settings of where it runs, such as data_dir.
        """
        shape = {"microbatches": min(self.microbatches), "blocks": self.workers, "seed": seed}
        settings = merge(self.settings, KINDS[entrant.kind], entrant.settings, given, shape)
        job = resolve(self.task, settings)
        known = ("loss", *job.task.metrics, *job.task.global_metrics)
        if self.score not in known:
            raise JobError(f"score: task '{job.task.name}' has no '{self.score}'; {known}")
        return job

    def reaches(self, value: float | None, bound: float) -> bool:
        """Return whether a value of the score reaches a bound; NaN, here None, never does."""
        return value is not None and reaches(self.score, value, bound)


_TARGETS = TypeAdapter(dict[str, Target])


def read_targets(file: Path) -> dict[str, Target]:
    """Read a file of targets, by name. Raises JobError if it cannot be read."""
    try:
        return _TARGETS.validate_python(read_yaml(file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise JobError(f"{file}: {where}: {first['msg']}") from error


def chosen(targets: Mapping[str, Target], names: Sequence[str]) -> dict[str, Target]:
    """Return the named targets. Raises JobError for an unknown name."""
    for name in names:
        if name not in targets:
            raise JobError(f"leaderboard: unknown target '{name}'; {nearest(name, targets)}")
    return {name: targets[name] for name in names}
