"""What a sweep is: task, ranges, methods and budget; and from these alone, its trials."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from coordinator.experiments.method_comparison import METHODS
from coordinator.experiments.sweep.halving import Halving
from coordinator.experiments.sweep.ranges import Range, nested, read_range
from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import Settings, merge
from dfa_core.seeding import derive

_DRAWS = 2**63  # derive() returns a number below it
_ATTEMPTS = 10_000  # to draw what no earlier trial has


@dataclass(frozen=True)
class Definition:
    """A sweep. Equal ones have equal trials and, for one version of the data, equal results.

    task: its name; a user's file with its absolute path.
    settings: those that all trials share, `epochs` among them.
    methods: names of METHODS. over: the texts of `--over`. trials: of each method.
    seed: of the draws; the seed of the training is a setting.
    metric: "loss" (lowest is best) or a metric of the task (highest is best).
    grace, reduction: of the halving.
    distributed: each trial is a job on `blocks` workers; otherwise it trains in one process.
    """

    task: str
    settings: Settings
    methods: tuple[str, ...]
    over: tuple[str, ...]
    trials: int
    seed: int
    metric: str
    grace: int
    reduction: int
    distributed: bool

    @property
    def halving(self) -> Halving:
        """Return how trials are stopped."""
        return Halving(self.grace, self.reduction, int(self.settings["epochs"]))

    @cached_property
    def ranges(self) -> Mapping[str, Range]:
        """Return the range of each field."""
        return dict(read_range(text) for text in self.over)

    def job(self, method: str, values: Mapping[str, Any]) -> Job:
        """Return the job of a trial. Raises JobError for values that do not suit each other."""
        return resolve(self.task, settings_of(self.settings, method, values))

    def better(self, score: float) -> float:
        """Return a score as a number of which more is better."""
        return -score if self.metric == "loss" else score


def settings_of(shared: Settings, method: str, values: Mapping[str, Any]) -> Settings:
    """Return the settings of a trial: the shared ones, the method's, and the values drawn."""
    drawn = (nested(field, value) for field, value in values.items())
    return merge(shared, METHODS[method], *drawn)


def draw(
    seed: int, method: str, ranges: Mapping[str, Range], trials: int
) -> Iterator[dict[str, Any]]:
    """Yield the values of each trial of a method; no two trials are the same.

    A value depends on (seed, method, number of the trial, field), and is drawn again where an
    earlier trial has all the same ones. Fewer trials come where there are no more.
    """
    size = 1.0
    for each in ranges.values():
        size *= each.size
    there: list[dict[str, Any]] = []
    for number in range(int(min(trials, size))):
        for attempt in range(_ATTEMPTS):
            values = {
                field: each.draw(derive(seed, "sweep", method, number, attempt, field) / _DRAWS)
                for field, each in ranges.items()
            }
            if values not in there:
                there.append(values)
                yield values
                break
        else:
            return


def unused(method: Job, swept: Sequence[str]) -> set[str]:
    """Return which of the swept fields change nothing under a method.

    method: a job of it, without swept values.
    """
    settings, feedback = method.settings, method.settings.feedback
    plateau = settings.optimizer.schedule == "plateau" or "optimizer.schedule" in swept
    found = set() if plateau else {"optimizer.patience"}
    if settings.method != "dfa":
        found |= {field for field in swept if field.startswith("feedback.")}
    elif "feedback.kind" not in swept:
        identity = feedback.kind == "identity"
        found |= {"feedback.distribution", "feedback.shared"} if identity else {"feedback.hops"}
        if not (identity and (feedback.hops or "feedback.hops" in swept)):
            found.add("feedback.damping")
    if feedback.sent_as != "topk" and "feedback.sent_as" not in swept:
        found.add("feedback.keep")
    return found & set(swept)
