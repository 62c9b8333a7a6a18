"""Checks what a sweep is asked for, before anything starts, and draws its trials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.experiments.method_comparison import METHODS
from coordinator.experiments.sweep.definition import Definition, draw, settings_of, unused
from coordinator.experiments.sweep.ranges import Range, nested, read_range
from coordinator.experiments.sweep.record import Sweep, Trial
from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import Settings, merge
from dfa_core import JobError
from dfa_core.names import nearest
from dfa_tasks import Task

_SHARE_BEFORE_STOP = 5  # the first comparison comes after this fraction of a trial's epochs: 1/5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What was typed.

    grace, metric: None for what suits the task. distributed: trials are jobs on blocks.
    """

    task: str
    settings: Settings
    methods: Sequence[str]
    over: Sequence[str]
    trials: int
    seed: int = 0
    metric: str | None = None
    grace: int | None = None
    reduction: int = 3
    distributed: bool = False


def begin(wanted: Wanted, tell: Tell) -> tuple[Sweep, Job]:
    """Return a new sweep, and a job of it; every trial of it can run as given.

    tell: gets a line about each thing that the user should know.

    Raises JobError for the first thing that is wrong.
    """
    ranges = _ranges(wanted)
    jobs = {method: _base(wanted, method, ranges) for method in wanted.methods}
    first = jobs[wanted.methods[0]]
    epochs = max(job.settings.epochs for job in jobs.values())
    grace = max(1, epochs // _SHARE_BEFORE_STOP) if wanted.grace is None else wanted.grace
    definition = Definition(
        task=first.settings.task,
        settings=_shared(wanted.settings, first, epochs),
        methods=tuple(wanted.methods),
        over=tuple(wanted.over),
        trials=wanted.trials,
        seed=wanted.seed,
        metric=_metric(first.task, wanted.metric),
        grace=grace,
        reduction=wanted.reduction,
        distributed=wanted.distributed,
    )
    sweep = Sweep(1, definition, trials_of(definition, jobs, tell))
    for trial in sweep.trials:
        _check(definition, trial)
    _check_data(first, tell)
    return sweep, first


def extended(sweep: Sweep, trials: int, tell: Tell) -> Sweep:
    """Return the sweep with more trials of each method: what it had is a part of it.

    Raises JobError for fewer trials than it has.
    """
    before = sweep.definition
    if trials < before.trials:
        raise JobError(f"--trials: the sweep has {before.trials} of each method, not {trials}")
    definition = replace(before, trials=trials)
    jobs = {method: definition.job(method, {}) for method in definition.methods}
    there = {trial.name: trial for trial in sweep.trials}
    drawn = trials_of(definition, jobs, tell)
    for trial in drawn:
        if trial.name not in there:
            _check(definition, trial)
    return Sweep(1, definition, [there.get(trial.name, trial) for trial in drawn])


def trials_of(definition: Definition, jobs: Mapping[str, Job], tell: Tell) -> list[Trial]:
    """Draw all trials, the methods in turn, so that each has as many when a sweep is interrupted.

    jobs: one of each method, without swept values.

    Raises JobError for a field that no method uses.
    """
    ranges, by_method = definition.ranges, dict[str, list[Trial]]()
    ignored = {method: unused(job, [*ranges]) for method, job in jobs.items()}
    for field in ranges:
        without = [method for method in jobs if field in ignored[method]]
        if len(without) == len(jobs):
            raise JobError(f"--over {field}: no method of this sweep uses it; remove it")
        for method in without:
            tell(f"{field}: {method} does not use it, so its trials do not vary it")
    for method in jobs:
        used = {field: each for field, each in ranges.items() if field not in ignored[method]}
        drawn = draw(definition.seed, method, used, definition.trials)
        by_method[method] = [
            Trial(f"{method}-{number}", method, values) for number, values in enumerate(drawn)
        ]
        found = len(by_method[method])
        if found < definition.trials:
            tell(f"{method}: its ranges hold {found} different trial(s), not {definition.trials}")
    return [
        trials[number]
        for number in range(definition.trials)
        for trials in by_method.values()
        if number < len(trials)
    ]


def _ranges(wanted: Wanted) -> dict[str, Range]:
    """Read all ranges, and check what does not depend on the task."""
    if not wanted.over:
        raise JobError(
            "--over: name at least one field to vary, such as --over optimizer.lr=1e-4..1e-2:log"
        )
    for name, value in (("trials", wanted.trials), ("grace", wanted.grace)):
        if value is not None and value < 1:
            raise JobError(f"--{name}: {value} must be at least 1")
    if wanted.reduction < 2:
        raise JobError(f"--reduction: {wanted.reduction} must be at least 2")
    for method in wanted.methods:
        if method not in METHODS:
            raise JobError(f"--method: unknown '{method}'; {nearest(method, METHODS)}")
    if len({*wanted.methods}) < len(wanted.methods):
        raise JobError(f"--method: {','.join(wanted.methods)} names a method twice")
    ranges: dict[str, Range] = {}
    for text in wanted.over:
        field, each = read_range(text)
        if field in ranges:
            raise JobError(f"--over {text}: {field} has a range already")
        if _given(wanted.settings, field):
            raise JobError(f"--over {text}: --set gives {field} a value; remove one of them")
        for method in wanted.methods:
            if _given(METHODS[method], field):
                raise JobError(f"--over {text}: {method} has a value of its own for {field}")
        ranges[field] = each
    return ranges


def _given(settings: Mapping[str, Any], field: str) -> bool:
    value: Any = settings
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True


def _base(wanted: Wanted, method: str, ranges: Mapping[str, Range]) -> Job:
    """Return a job of a method without swept values, once all ends of its ranges are valid."""
    shared = settings_of(wanted.settings, method, {})
    job = resolve(wanted.task, shared)
    ignored = unused(job, [*ranges])
    for text in wanted.over:
        field, each = read_range(text)
        for value in each.ends if field not in ignored else ():
            try:
                resolve(wanted.task, merge(shared, nested(field, value)))
            except JobError as error:
                raise JobError(f"--over {text}: {error}") from error
    return job


def _shared(settings: Settings, job: Job, epochs: int) -> Settings:
    """Return the settings of all trials, with absolute paths, and the same number of epochs."""
    placed = {name: getattr(job.settings, name) for name in ("data_dir", "working_dir", "init")}
    return merge(settings, {"epochs": epochs}, {k: path for k, path in placed.items() if path})


def _check(definition: Definition, trial: Trial) -> None:
    try:
        definition.job(trial.method, trial.values)
    except JobError as error:
        values = ", ".join(f"{field}={value}" for field, value in trial.values.items())
        raise JobError(f"trial {trial.name} ({values}): {error}") from error


def _metric(task: Task, asked: str | None) -> str:
    """Return what trials are compared by: of the task's own, a global one is what it is about."""
    known = [*task.global_metrics, *task.metrics, "loss"]
    if asked is None:
        return "loss" if task.derived_metrics and not task.global_metrics else known[0]
    if asked in task.derived_metrics:
        raise JobError(f"--metric: {asked} follows from the loss; use loss")
    if asked not in known:
        raise JobError(f"--metric: unknown '{asked}'; {nearest(asked, known)}")
    return asked


def _check_data(job: Job, tell: Tell) -> None:
    """Load the data once, here, where a missing file ends the command with one line."""
    if job.task.fetch is not None:
        job.task.fetch()
    if job.splits().validation is None:
        tell(
            f"{job.task.name} has no validation data, so the test data choose the best settings: "
            f"their score is flattered"
        )
