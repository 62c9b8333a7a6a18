"""From what a user asked for to a checked job: the one place that validates it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from errorcast.v1.job_pb2 import METHOD_DFA, JobSpec

from coordinator.job.spec import DEFAULTS, Settings, merge, parse, plain_options, to_settings
from dfa_core import (
    ErrorFormat,
    FeedbackSpec,
    JobError,
    LearningRule,
    Model,
    OptimizerSpec,
    as_model,
)
from dfa_core.names import nearest
from dfa_core.optimizer import build_optimizer
from dfa_core.rule import Method
from dfa_tasks import Task, make_task
from workers.grid import Grid


@dataclass(frozen=True)
class Job:
    """A checked job: its spec with every field filled, and the task it names."""

    spec: JobSpec
    task: Task

    @property
    def model(self) -> Model:
        """Return the task's model as layer factories and a head."""
        return as_model(self.task.model)

    @property
    def grid(self) -> Grid:
        """Return the blocks and their replicas."""
        return Grid(self.spec.blocks, self.spec.replicas)

    @property
    def method(self) -> Method:
        """Return dfa, bp or shallow."""
        method: Method = to_settings(self.spec)["method"]
        return method

    def rule(self, steps_per_epoch: int) -> LearningRule:
        """Return the learning rule; the schedule ends with the last epoch."""
        settings = to_settings(self.spec)
        optimizer = self.spec.optimizer
        feedback = settings["feedback"]
        return LearningRule(
            seed=self.spec.seed,
            microbatches=self.spec.microbatches,
            optimizer=OptimizerSpec(
                name=optimizer.name,
                lr=optimizer.lr,
                options=plain_options(optimizer.options),
                layer_options=plain_options(optimizer.layer_options),
                clip_norm=optimizer.clip_norm,
                schedule=settings["optimizer"]["schedule"],
                warmup_steps=optimizer.warmup_steps,
                total_steps=self.spec.epochs * steps_per_epoch,
                cut_factor=self.spec.faults.rate_factor,
            ),
            feedback=FeedbackSpec(
                kind=feedback["kind"],
                distribution=feedback["distribution"],
                shared=feedback["shared"],
                scale=feedback["scale"],
                sent_as=ErrorFormat(feedback["sent_as"], feedback["keep"]),
            ),
            error_at=self.task.error_at,
            sample_dims=self.task.sample_dims,
            staleness=self.spec.staleness,
            skip_non_finite=settings["faults"]["non_finite"] == "skip",
            precision=settings["precision"],
            activations=settings["activations"],
        )


def resolve(task: str | Task, settings: Mapping[str, Any]) -> Job:
    """Fill in the defaults (ours, then the task's), lay the settings over them, check everything.

    Raises JobError with one line for whatever is wrong.
    """
    given = parse({"task": task if isinstance(task, str) else task.name, **settings})
    if isinstance(task, str):
        method = to_settings(given).get("method") or DEFAULTS["method"]
        task = make_task(task, plain_options(given.options), given.data_dir, method)
    defaults = merge(DEFAULTS, task.defaults)
    spec = parse(merge(defaults, settings, {"task": given.task}))
    _check_numbers(spec)
    _check_graphs(spec)
    resources = spec.resources
    resources.threads = resources.threads or max(1, int(resources.cpus))
    job = Job(spec, task)
    _check_optimizer(job)
    _check_together(job)
    return job


def _check_together(job: Job) -> None:
    """Raise JobError where task and settings, each right alone, do not go together."""
    spec, task, rule = job.spec, job.task, job.rule(steps_per_epoch=1)
    if task.full_batch and spec.microbatches > 1:
        raise JobError(
            f"microbatches: {spec.microbatches}: the samples of this task belong together and are "
            f"not cut; set it to 1"
        )
    known = ["", "loss", *task.metrics, *task.global_metrics, *task.derived_metrics]
    if spec.stopping.metric not in known:
        hint = nearest(spec.stopping.metric, known[1:])
        raise JobError(f"stopping.metric: unknown '{spec.stopping.metric}'; {hint}")
    if rule.feedback.kind == "learned" and rule.staleness:
        raise JobError(
            "staleness: delayed mode needs feedback matrices that stay, which feedback.kind=learned"
            " does not have; set it to 0, or use random"
        )
    if rule.feedback.kind == "learned" and rule.skip_non_finite and spec.replicas > 1:
        raise JobError(
            "faults.non_finite: skip could leave one replica without the matrices that the others "
            "have drawn, with feedback.kind=learned; use stop or roll_back, or one replica"
        )
    if rule.feedback.kind == "target" and rule.error_at == "input":
        raise JobError(
            "feedback.kind: target stands for the error at the head's output, and this task takes "
            "it at the head's input; use random"
        )
    if rule.feedback.kind == "target" and rule.skip_non_finite:
        raise JobError(
            "faults.non_finite: skip needs the error, which feedback.kind=target does not send; "
            "use stop or roll_back"
        )
    layers = len(job.model.layers)
    if not 1 <= spec.blocks <= layers and spec.method == METHOD_DFA:
        raise JobError(f"blocks: {spec.blocks} is not between 1 and the model's {layers} layer(s)")


def _check_optimizer(job: Job) -> None:
    optimizer = job.rule(steps_per_epoch=1).optimizer
    parts = ["head", *map(str, range(len(job.model.layers)))]
    for part in optimizer.layer_options:
        if part not in parts:
            raise JobError(
                f"optimizer.layer_options: there is no layer '{part}'; {nearest(part, parts)}"
            )
    for part in ("", *optimizer.layer_options):
        build_optimizer(optimizer.of(part), [torch.nn.Parameter(torch.zeros(1))])


def fingerprint(spec: JobSpec) -> Settings:
    """Return what a run's numbers depend on; two runs of equal identity are one job.

    The numbers of blocks and replicas are not in it, nor where a job runs; the number of epochs is
    only where the learning rate depends on it.
    """
    settings = to_settings(spec)
    where = ("blocks", "replicas", "resources", "checkpoint", "data_dir", "log_every", "faults")
    for free in (*where, "stopping"):
        del settings[free]
    if settings["optimizer"]["schedule"] in ("constant", "plateau"):
        del settings["epochs"]
    return settings


def _check_graphs(spec: JobSpec) -> None:
    if spec.resources.cuda_graphs and not spec.resources.gpus:
        raise JobError(
            "resources.cuda_graphs: needs GPUs; set resources.gpus above 0, or it to false"
        )
    if spec.resources.cuda_graphs and spec.staleness:
        raise JobError(
            "resources.cuda_graphs: delayed mode computes with other weights at each step, which "
            "nothing captured does; set it to false, or staleness to 0"
        )


def _check_numbers(spec: JobSpec) -> None:
    at_least_one = {
        "replicas": spec.replicas,
        "microbatches": spec.microbatches,
        "batch_size": spec.batch_size,
        "epochs": spec.epochs,
        "checkpoint.keep": spec.checkpoint.keep,
        "log_every": spec.log_every,
        "optimizer.patience": spec.optimizer.patience,
    }
    for name, number in at_least_one.items():
        if number < 1:
            raise JobError(f"{name}: {number} must be at least 1")
    above_zero = {
        "optimizer.lr": spec.optimizer.lr,
        "feedback.scale": spec.feedback.scale,
        "resources.cpus": spec.resources.cpus,
        "resources.timeout_s": spec.resources.timeout_s,
        "faults.rate_factor": spec.faults.rate_factor,
    }
    for name, value in above_zero.items():
        if not 0 < value < float("inf"):
            raise JobError(f"{name}: {value:g} must be above 0")
    for name, value in {
        "optimizer.clip_norm": spec.optimizer.clip_norm,
        "resources.gpus": spec.resources.gpus,
        "resources.coordinator_gpus": spec.resources.coordinator_gpus,
    }.items():
        if value < 0:
            raise JobError(f"{name}: {value:g} must be 0 or above")
    if not 0 < spec.feedback.keep <= 1:
        raise JobError(f"feedback.keep: {spec.feedback.keep:g} must be above 0, and at most 1")
    if spec.faults.rate_factor >= 1:
        raise JobError(f"faults.rate_factor: {spec.faults.rate_factor:g} must be below 1")
    if spec.staleness and spec.method != METHOD_DFA:
        raise JobError("staleness: only method dfa can be delayed; set it to 0")
    if spec.seed >= 2**63:
        raise JobError(f"seed: {spec.seed} must be below 2**63")
    if spec.batch_size % spec.microbatches:
        divisors = [m for m in range(1, 65) if spec.batch_size % m == 0]
        best = min(divisors, key=lambda m: abs(m - spec.microbatches))
        raise JobError(
            f"microbatches: {spec.microbatches} does not divide batch_size {spec.batch_size}; "
            f"{best} does"
        )
    if spec.microbatches % spec.replicas:
        raise JobError(
            f"replicas: {spec.replicas} does not divide microbatches {spec.microbatches}, which "
            f"replicas share"
        )
