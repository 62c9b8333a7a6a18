"""Compares the methods on one task: each is trained with several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from coordinator.inspection.saved_run import alignments
from coordinator.job.resolve import outcome, resolve
from coordinator.job.spec import Settings, merge
from coordinator.launch.ray_session import ray_for
from coordinator.launch.train import Run, Viewer, train
from coordinator.runs.origin import Origin
from coordinator.runs.run_folder import RunFolder
from dfa_core import JobError
from dfa_core.names import nearest
from dfa_tasks.source import as_source

# the settings of each name; `dfa` is the paper's, whatever feedback the task has by default
METHODS: Mapping[str, Settings] = {
    "bp": {"method": "bp"},
    "bp-delayed": {"method": "bp", "staleness": 1},
    "dfa": {"method": "dfa", "feedback": {"kind": "random"}},
    "dfa-identity": {"method": "dfa", "feedback": {"kind": "identity"}},
    "dfa-hops1": {"method": "dfa", "feedback": {"kind": "identity", "hops": 1}},
    "dfa-hops2": {"method": "dfa", "feedback": {"kind": "identity", "hops": 2}},
    "dfa-sign": {"method": "dfa", "feedback": {"kind": "sign"}},
    "dkp": {"method": "dfa", "feedback": {"kind": "learned"}},
    "drtp": {"method": "dfa", "feedback": {"kind": "target"}},
    "fdfa": {"method": "dfa", "feedback": {"kind": "forward"}},
    "local": {"method": "dfa", "feedback": {"kind": "local"}},
    "shallow": {"method": "shallow"},
}
_LOOKS = 10  # measurements of the alignment in a run

Cosines = list[tuple[int, list[tuple[str, float]]]]


@dataclass(frozen=True)
class Row:
    """One method: test scores, steps, seconds and curves of each seed.

    alignment: for each seed (number of steps trained, the cosine of each layer's DFA update with
    the exact gradient), in order.
    """

    method: str
    scores: Sequence[Mapping[str, float]]
    steps: Sequence[int]
    seconds: Sequence[float]
    curves: Sequence[Sequence[Mapping[str, Any]]]
    alignment: Sequence[Cosines]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation of each score over the seeds."""
        names = self.scores[0]
        found = {name: [scores[name] for scores in self.scores] for name in names}
        return {
            name: (mean(values), stdev(values) if len(values) > 1 else 0.0)
            for name, values in found.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything but the curves, which are in the runs' folders."""
        sums = {name: {"mean": m, "std": s} for name, (m, s) in self.summary().items()}
        runs = zip(self.scores, self.steps, self.seconds, strict=True)
        return {
            "method": self.method,
            "test": sums,
            "seeds": [{"test": dict(s), "steps": n, "seconds": t} for s, n, t in runs],
            "alignment": [
                [{"step": step, "layers": dict(cosines)} for step, cosines in looks]
                for looks in self.alignment
            ],
        }


def compare_methods(
    task: str,
    methods: Sequence[str],
    seeds: int,
    settings: Settings,
    folder: Path,
    aligned: bool,
    report: Callable[[str], None],
    viewer: Viewer | None = None,
    tuned: Mapping[str, Settings] | None = None,
) -> list[Row]:
    """Train a task by every method with seeds 0..seeds-1, and return one row for each method.

    Runs are in folder/METHOD-SEED; finished ones are not run again.
    settings: those that all runs share.
    aligned: also measure the alignment, about ten times in each dfa run.
    report: called with one line after each run.
    tuned: settings of single methods.

    Raises JobError for an unknown method and for no seeds, and whatever train() raises.
    """
    for method in methods:
        if method not in METHODS:
            raise JobError(f"--methods: unknown '{method}'; {nearest(method, METHODS)}")
    if seeds < 1:
        raise JobError(f"--seeds: {seeds} must be at least 1")
    jobs = [merge(settings, METHODS[method], (tuned or {}).get(method, {})) for method in methods]
    checked = [resolve(task, job) for job in jobs]
    rows = []
    with ray_for(max(len(job.grid) for job in checked), checked[0].settings.resources.cpus):
        for method, job in zip(methods, jobs, strict=True):
            measured = aligned and job["method"] == "dfa"
            every = _between_looks(task, job) if measured else 0
            more = {"checkpoint": {"every_steps": every, "keep": 100 * _LOOKS}} if measured else {}
            runs = []
            for seed in range(seeds):
                run = _one(
                    task, merge(job, more, {"seed": seed}), folder / f"{method}-{seed}", viewer
                )
                scores = "  ".join(f"{k} {v:.4f}" for k, v in run.metrics.items())
                report(f"{method}, seed {seed}: test {scores}")
                if not run.summary["finished"]:
                    report(
                        f"stopped and saved; to continue, run the same command with --out {folder}"
                    )
                    raise KeyboardInterrupt
                runs.append(run)
            found = [alignments(run.folder, every) for run in runs] if measured else []
            rows.append(_row(method, runs, common_looks(found)))
    return rows


def _row(method: str, runs: Sequence[Run], found: Sequence[Cosines]) -> Row:
    return Row(
        method,
        [dict(run.metrics) for run in runs],
        [run.summary["steps"] for run in runs],
        [run.summary["seconds"] for run in runs],
        [run.curves for run in runs],
        found,
    )


def _one(task: str, settings: Settings, folder: Path, viewer: Viewer | None) -> Run:
    existing = RunFolder(folder)
    if existing.job.exists():
        job, there = resolve(task, settings), existing.spec()
        existing.check_same(job.spec)
        summary = existing.summary()
        if summary is not None and summary["finished"] and outcome(there) == outcome(job.spec):
            existing.check_origin(Origin.of(job, job.splits()))
            return Run(folder, job, summary)
        if there.epochs > job.settings.epochs:
            raise JobError(
                f"{folder}: holds a run of {there.epochs} epochs, not {job.settings.epochs}; name "
                f"another --out"
            )
    return train(task, run_dir=folder, resume=existing.job.exists(), viewer=viewer, **settings)


def common_looks(found: Sequence[Cosines]) -> list[Cosines]:
    """Return each seed's looks at the alignment, for the steps that all seeds reached."""
    steps = [{step for step, _ in looks} for looks in found]
    common = set.intersection(*steps) if steps else set()
    return [[look for look in looks if look[0] in common] for looks in found]


def _between_looks(task: str, settings: Settings) -> int:
    """Return the number of steps between two of about ten looks in a whole run."""
    job = resolve(task, settings)
    source = as_source(job.splits().train, job.settings.batch_size, job.settings.seed)
    return max(1, job.settings.epochs * source.steps_per_epoch // _LOOKS)
