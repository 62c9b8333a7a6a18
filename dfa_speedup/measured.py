"""What a comparison has measured, as plain data: to continue it, and to make its results."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from dfa_speedup.peers import ERRORCAST, LIMIT_BP, LIMIT_DFA, LIMIT_DFA_LOADED, PIPELINES
from dfa_speedup.simulation.costs import Costs
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Configuration
from workers.trace import Span

LIMITS = (LIMIT_DFA, LIMIT_DFA_LOADED, LIMIT_BP)


@dataclass
class Measured:
    """One configuration: the seconds of its steps, or the reason why it could not run.

    failed: why it ran no longer in the rounds; what was measured before still counts.
    tried: seconds of the steps of the first trial. rounds: of each later one. ratios: a round's
    median step over that of errorcast's trials before and after it. spans: of each worker, in the
    last trial. shape: errorcast's.
    """

    configuration: Configuration
    tried: list[float] = field(default_factory=list)
    rounds: list[list[float]] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    bubbles: list[float] = field(default_factory=list)
    spans: list[list[Span]] = field(default_factory=list)
    peak_memory_mb: float = 0.0
    bytes_per_step: int = 0
    shape: Shape | None = None
    reason: str = ""
    failed: str = ""

    @property
    def seconds(self) -> list[float]:
        """Return the seconds of all steps of the rounds, or of the first trial without rounds."""
        return [s for steps in self.rounds for s in steps] or self.tried


@dataclass
class Measurements:
    """All that is measured so far: the sides, the limits, the costs of the layers, the link.

    costs: for each number of microbatches, one measurement a round. link: None where not measured.
    flops: of a step of the whole model, by `bp` and by `dfa`.
    """

    workers: int
    sides: list[Measured]
    limits: list[Measured] = field(default_factory=list)
    costs: dict[int, list[Costs]] = field(default_factory=dict)
    link: Link | None = None
    flops: dict[str, int] = field(default_factory=dict)

    def side(self, configuration: Configuration) -> Measured:
        """Return the side of a configuration; a new one where it was not measured."""
        found = (side for side in self.sides if side.configuration == configuration)
        return next(found, Measured(configuration))

    def limit(self, name: str) -> Measured:
        """Return one of LIMITS; a new one where it was not measured."""
        found = (one for one in self.limits if one.configuration.schedule == name)
        return next(found, Measured(Configuration(name, 1)))

    def schedules(self) -> list[str]:
        """Return the names of the sides, in the order in which they are measured."""
        return list(dict.fromkeys(side.configuration.schedule for side in self.sides))

    def best(self, schedule: str) -> Measured:
        """Return a side at its best microbatches and stages, or one with a reason why not."""
        sides = [side for side in self.sides if side.configuration.schedule == schedule]
        return fastest(sides) or sides[0]

    def ours(self) -> Measured:
        """Return errorcast at its best."""
        return self.best(ERRORCAST)

    def best_pipeline(self) -> Measured | None:
        """Return the fastest of all pipelines at their best, or None if none could run."""
        sides = [self.best(name) for name in self.schedules() if name in PIPELINES]
        ran = [side for side in sides if side.ratios and not side.reason]
        return min(ran, key=lambda side: median(side.ratios), default=None)


def fastest(sides: Iterable[Measured]) -> Measured | None:
    """Return the side with the fastest step of a first trial, or None if none could run."""
    ran = [side for side in sides if side.tried and not side.reason]
    return min(ran, key=lambda side: min(side.tried), default=None)
