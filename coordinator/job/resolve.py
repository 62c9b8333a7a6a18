"""Turns what a user asked for into a checked job."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from errorcast.v1.job_pb2 import JobSpec

from coordinator.job.checks import check_optimizer, check_settings, check_with_task
from coordinator.job.path_options import PATH_OPTIONS
from coordinator.job.places import InFolder, in_folder, place
from coordinator.job.settings import DEFAULTS, JobSettings, decode
from coordinator.job.spec import Settings, merge, parse, to_settings
from dfa_core import ErrorFormat, FeedbackSpec, LearningRule, Model, OptimizerSpec, as_model
from dfa_core.rule import Method
from dfa_tasks import Splits, Task, make_task
from dfa_tasks.registry import split_file
from dfa_tasks.weights.frozen import Freeze
from workers.grid import Grid


@dataclass(frozen=True)
class Job:
    """A checked job: its spec with every field filled, and the task it names."""

    spec: JobSpec
    task: Task

    @cached_property
    def settings(self) -> JobSettings:
        """Return the spec with types, decoded once."""
        return decode(self.spec)

    def splits(self) -> Splits:
        """Load the task's data; what it draws depends on the job's seed alone."""
        return self.task.splits(self.settings.seed)

    @property
    def model(self) -> Model:
        """Return the task's model as layer factories and a head, with what the job freezes."""
        model, frozen = as_model(self.task.model), self.settings.frozen
        freeze = (Freeze(tuple(frozen), model.names),) if frozen else ()
        return replace(model, preparations=freeze) if freeze else model

    @property
    def grid(self) -> Grid:
        """Return the blocks, their replicas, and the workers for the head."""
        return Grid(self.settings.blocks, self.settings.replicas, self.settings.heads)

    @property
    def method(self) -> Method:
        """Return dfa, bp or shallow."""
        return self.settings.method

    def rule(self, steps_per_epoch: int) -> LearningRule:
        """Return the learning rule; the schedule ends with the last epoch."""
        settings, feedback = self.settings, self.settings.feedback
        matrices = FeedbackSpec(
            kind=feedback.kind,
            distribution=feedback.distribution,
            shared=feedback.shared,
            scale=feedback.scale,
            sent_as=ErrorFormat(feedback.sent_as, feedback.keep),
            hops=feedback.hops,
            damping=feedback.damping,
        )
        return LearningRule(
            seed=settings.seed,
            method=settings.method,
            microbatches=settings.microbatches,
            optimizer=self._optimizer(total_steps=settings.epochs * steps_per_epoch),
            feedback=matrices if settings.method == "dfa" else FeedbackSpec(),
            error_at=self.task.error_at,
            sample_dims=self.task.sample_dims,
            staleness=settings.staleness,
            skip_non_finite=settings.faults.non_finite == "skip",
            precision=settings.precision,
            activations=settings.activations,
            compiled=settings.compiled,
            ema=settings.ema,
        )

    def _optimizer(self, total_steps: int) -> OptimizerSpec:
        optimizer = self.settings.optimizer
        return OptimizerSpec(
            name=optimizer.name,
            lr=optimizer.lr,
            options=optimizer.options,
            layer_options=optimizer.layer_options,
            clip_norm=optimizer.clip_norm,
            schedule=optimizer.schedule,
            warmup_steps=optimizer.warmup_steps,
            total_steps=total_steps,
            cut_factor=self.settings.faults.rate_factor,
        )


def resolve(task: str | Task, settings: Mapping[str, Any]) -> Job:
    """Complete the settings with the task's defaults, then with the general ones; check everything.

    task: a task, or the name that make_task() takes.
    settings: fields of the job spec; they override all defaults.

    Raises JobError, with one line for people, for the first thing that is wrong.
    """
    own_code = isinstance(task, Task) or split_file(task) is not None or task in PATH_OPTIONS
    given = parse({"task": task if isinstance(task, str) else task.name, **settings})
    place(given, own_code)
    made, spec = _complete(task, given, settings)
    if spec.seed != given.seed and isinstance(task, str):  # the seed is a default of the task
        given.seed = spec.seed
        made, spec = _complete(task, given, settings)
    place(spec, own_code)
    resources = spec.resources
    resources.threads = resources.threads or max(1, int(resources.cpus))
    layers = len(as_model(made.model).layers)
    if "blocks" not in settings and "blocks" not in made.defaults:
        spec.blocks = min(spec.blocks, max(1, layers))
    job = Job(spec, made)
    check_settings(job.settings)
    check_optimizer(job.rule(steps_per_epoch=1).optimizer, layers)
    check_with_task(job.settings, made, layers)
    return job


def _complete(
    task: str | Task, given: JobSpec, settings: Mapping[str, Any]
) -> tuple[Task, JobSpec]:
    """Make the task, if this is its name, under the given seed; return it and the full spec."""
    if isinstance(task, str):
        asked = decode(given)
        with in_folder(asked.working_dir):
            task = make_task(given.task, asked.options, asked.data_dir, asked.method, asked.seed)
    task = _in_folder(task, given.working_dir)
    return task, parse(merge(DEFAULTS, task.defaults, settings, {"task": given.task}))


def _in_folder(task: Task, folder: str) -> Task:
    """Return a task whose functions that load data run in a folder."""
    if not folder:
        return task
    data = task.data if isinstance(task.data, Splits) else InFolder(folder, task.data)
    fetch = None if task.fetch is None else InFolder(folder, task.fetch)
    return replace(task, data=data, fetch=fetch)


def resolve_spec(spec: JobSpec, changes: Mapping[str, Any] | None = None) -> Job:
    """Resolve a spec whose fields are all filled, such as a run folder's.

    changes: settings that override those of the spec.

    Raises JobError as resolve() does.
    """
    settings = merge(to_settings(spec), changes or {})
    return resolve(settings.pop("task"), settings)


def fingerprint(spec: JobSpec) -> Settings:
    """Return what a run's numbers depend on; two runs with equal fingerprints are one job.

    It holds neither the numbers of blocks, replicas and heads nor where a job runs. It holds the
    number of epochs only where the learning rate depends on it.
    """
    settings = to_settings(spec)
    where = (
        "blocks",
        "replicas",
        "heads",
        "resources",
        "checkpoint",
        "data_dir",
        "working_dir",
        "log_every",
        "trackers",
        "code",
    )
    for free in (*where, "faults", "stopping"):
        del settings[free]
    if settings["optimizer"]["schedule"] in ("constant", "plateau"):
        del settings["epochs"]
    return settings


def outcome(spec: JobSpec) -> Settings:
    """Return what a run's result depends on: its numbers, its end, and which epoch it chooses.

    Unlike a fingerprint it distinguishes runs that one could continue from the other, and folders
    of data.
    """
    settings = to_settings(spec)
    where = ("blocks", "replicas", "heads", "resources", "checkpoint")
    for free in (*where, "log_every", "trackers", "code"):
        del settings[free]
    return settings
