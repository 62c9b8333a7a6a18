"""What is known of a sweep's trials, and its file, sweep.json."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from coordinator.experiments.sweep.definition import Definition
from coordinator.experiments.sweep.halving import Course, stops
from coordinator.runs.run_folder import RunFolder
from dfa_core import JobError
from dfa_core.atomic_file import write_atomically

RECORD = "sweep.json"
State = Literal["waiting", "finished", "stopped", "failed"]


@dataclass
class Trial:
    """One trial: the values that were drawn, and its score after each epoch.

    chosen: the epoch whose weights are the result, once the trial has finished.
    test: its scores on the test data. failed: why it ended before.
    """

    name: str
    method: str
    values: dict[str, Any]
    state: State = "waiting"
    scores: list[float] = field(default_factory=list)
    chosen: int | None = None
    test: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def score(self) -> float | None:
        """Return the score of its result, or of the last epoch; None before the first one."""
        return self.scores[(self.chosen or len(self.scores)) - 1] if self.scores else None

    def end(self, state: State, failed: str = "") -> None:
        """Note how it ended."""
        self.state, self.failed = state, failed


@dataclass
class Sweep:
    """A sweep and all that is known of it; the trials of a method are in their order."""

    format: Literal[1]
    definition: Definition
    trials: list[Trial]

    def of_method(self, method: str) -> list[Trial]:
        """Return the trials of a method."""
        return [trial for trial in self.trials if trial.method == method]

    def waiting(self) -> list[Trial]:
        """Return the trials that have not ended, in the order in which they start."""
        return [trial for trial in self.trials if trial.state == "waiting"]

    def trial(self, name: str) -> Trial:
        """Return the trial of this name."""
        return next(trial for trial in self.trials if trial.name == name)

    def stop_the_worse(self) -> None:
        """Stop the trials that the halving stops; what they learned after that does not count."""
        for method in self.definition.methods:
            trials = self.of_method(method)
            courses = [
                Course([*map(self.definition.better, trial.scores)], trial.state != "waiting")
                for trial in trials
            ]
            for trial, epochs in zip(trials, stops(courses, self.definition.halving), strict=True):
                if epochs is not None and trial.state != "stopped":
                    trial.end("stopped")
                    trial.scores, trial.chosen, trial.test = trial.scores[:epochs], None, {}

    def best(self, method: str) -> Trial | None:
        """Return the best trial of a method that was trained to its end; of equal ones, the first.

        Returns None where there is none.
        """
        ended = [trial for trial in self.of_method(method) if trial.state == "finished"]
        scored = [(trial, trial.score) for trial in ended]
        found = [(self.definition.better(score), t) for t, score in scored if score is not None]
        return max(found, key=lambda each: each[0])[1] if found else None

    def ranked(self) -> Iterator[Trial]:
        """Yield all trials, method by method: the best first, then stopped ones, then failed."""
        states: dict[State, int] = {"finished": 0, "stopped": 1, "waiting": 2, "failed": 3}

        def rank(trial: Trial) -> tuple[float, ...]:
            score = trial.score
            epochs = 0 if trial.state == "finished" else -len(trial.scores)
            better = float("inf") if score is None else -self.definition.better(score)
            return (states[trial.state], epochs, better)

        for method in self.definition.methods:
            yield from sorted(self.of_method(method), key=rank)


_SWEEP = TypeAdapter(Sweep)


@dataclass(frozen=True)
class SweepFolder:
    """sweep.json, the best job files and the picture; the trials' run folders are in trials/."""

    path: Path

    @property
    def record(self) -> Path:
        """Return the path of sweep.json."""
        return self.path / RECORD

    def run(self, name: str) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.path / "trials" / name)

    def best_job(self, method: str) -> Path:
        """Return the path of the job file of a method's best trial."""
        return self.path / f"best-{method}.yaml"

    def read(self) -> Sweep:
        """Return the sweep. Raises JobError where there is none, or its file cannot be read."""
        try:
            return _SWEEP.validate_json(self.record.read_bytes())
        except FileNotFoundError:
            raise JobError(f"{self.path}: holds no sweep ({RECORD} is missing)") from None
        except (OSError, ValidationError) as error:
            why = " ".join(str(error).split())[:200]
            raise JobError(f"{self.record} cannot be read: {why}") from error

    def keep(self, sweep: Sweep) -> None:
        """Write sweep.json. Raises OSError when the write fails."""
        write_atomically(self.record, text_of(sweep).encode())


def text_of(sweep: Sweep) -> str:
    """Return what sweep.json holds: the sweep, and the best trial of each method."""
    found = json.loads(_SWEEP.dump_json(sweep))
    best = {method: sweep.best(method) for method in sweep.definition.methods}
    found["best"] = {method: trial and trial.name for method, trial in best.items()}
    return json.dumps(found, indent=1) + "\n"
