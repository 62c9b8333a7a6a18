"""The best settings that a sweep found, for a comparison of the methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from coordinator.experiments.sweep.ranges import nested
from coordinator.experiments.sweep.record import SweepFolder
from coordinator.job.places import place, same_task
from coordinator.job.spec import Settings, merge, parse
from dfa_core import JobError


@dataclass(frozen=True)
class Tuned:
    """What a sweep found.

    shared: the settings that all its trials had. best: of each method, the values of its best
    trial, as settings.
    """

    shared: Settings
    best: Mapping[str, Settings]


def read_tuned(folder: Path, task: str, methods: Sequence[str] | None, given: Settings) -> Tuned:
    """Return the best settings of these methods; None: of all that the sweep tuned.

    given: settings of the command line; they may not hold what the sweep tuned.

    Raises JobError where the sweep is of another task, or has no best settings for a method.
    """
    sweep = SweepFolder(folder).read()
    definition = sweep.definition
    asked = parse({"task": task})
    place(asked, own_code=False)
    if not same_task(definition.task, asked.task):
        raise JobError(f"--tuned: {folder} is a sweep of {definition.task}, not of {task}")
    if sweep.waiting():
        raise JobError(
            f"--tuned: {len(sweep.waiting())} trial(s) of {folder} have not ended; continue it "
            f"with errorcast sweep {quote(str(folder))} --resume"
        )
    best = {}
    for method in definition.methods if methods is None else methods:
        trial = sweep.best(method)
        if trial is None:
            raise JobError(
                f"--tuned: {folder} has no best settings for {method}; remove it from --methods, "
                f"or sweep it"
            )
        best[method] = merge(*(nested(field, value) for field, value in trial.values.items()))
        _check_not_given(given, best[method], "")
    return Tuned(definition.settings, best)


def _check_not_given(given: Settings, tuned: Settings, path: str) -> None:
    for name in {*given} & {*tuned}:
        if isinstance(given[name], Mapping) and isinstance(tuned[name], Mapping):
            _check_not_given(given[name], tuned[name], f"{path}{name}.")
        else:
            raise JobError(f"--set {path}{name}: the sweep of --tuned chooses it; remove it")
