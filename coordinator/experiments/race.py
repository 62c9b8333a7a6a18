"""Training to a test score: which sides, which score, and how far each side is."""

from dataclasses import dataclass, field
from typing import Any

from coordinator.job.resolve import Job, fingerprint
from dfa_core import JobError
from dfa_speedup.measured import Measurements
from dfa_speedup.workload import Configuration


@dataclass
class Raced:
    """How far a side has come: seconds of training and test scores of each epoch.

    finished: the target is reached, or all epochs are over. failed: why it ended before.
    """

    configuration: Configuration
    epochs: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    reached: bool = False
    finished: bool = False
    failed: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return a row of bench.json."""
        return {
            "schedule": self.configuration.schedule,
            "label": self.configuration.label,
            "microbatches": self.configuration.microbatches,
            "epochs": len(self.epochs),
            "seconds": round(sum(seconds for seconds, _ in self.epochs), 3),
            "reached": self.reached,
            "failed": self.failed or (None if self.finished else "stopped before its end"),
            "scores": [scores for _, scores in self.epochs],
        }


@dataclass
class Race:
    """errorcast and the best pipeline, on their way to a test score.

    jobs: what errorcast and the pipeline train, as settings.
    """

    score: str
    bound: float
    jobs: list[dict[str, Any]]
    sides: list[Raced]

    def same(self, other: "Race") -> bool:
        """Return whether both have the same target and sides, however far each side is."""
        return (self.score, self.bound, self.jobs, [side.configuration for side in self.sides]) == (
            (other.score, other.bound, other.jobs, [side.configuration for side in other.sides])
        )


@dataclass(frozen=True)
class Target:
    """What both sides train to: a test score, by errorcast's job and by the pipeline's.

    peer: the same task, perhaps with other settings that suit the pipeline better.
    """

    score: str
    bound: float
    peer: Job

    def check(self, job: Job) -> None:
        """Raise JobError for a score that the task does not have, and for another network."""
        if self.score not in ("loss", *job.task.metrics):
            raise JobError(f"--to-{self.score}: task '{job.task.name}' has no such score")
        layers, of_peer = len(job.model.layers), len(self.peer.model.layers)
        if layers != of_peer:
            raise JobError(
                f"--pipeline-set: both sides must train the same network, but the pipeline's has "
                f"{of_peer} layers and errorcast's has {layers}"
            )

    def race(self, job: Job, found: Measurements) -> Race:
        """Return the record of both sides at their start. Raises JobError if no pipeline can run.

        job: of errorcast.
        """
        pipeline = found.best_pipeline()
        if pipeline is None:
            raise JobError("--to-accuracy, --to-loss: no pipeline could run to compare with")
        sides = [Raced(one.configuration) for one in (found.ours(), pipeline)]
        jobs = [fingerprint(one.spec) for one in (job, self.peer)]
        return Race(self.score, self.bound, jobs, sides)
