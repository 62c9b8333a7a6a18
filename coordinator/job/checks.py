"""Finds what is wrong with a job before it starts: numbers, combinations, and the optimizer.

Every function raises JobError with one line that names the field, its value and what to do.
"""

from collections.abc import Mapping

import torch

from coordinator.job.settings import JobSettings
from coordinator.job.trackers import check_trackers
from dfa_core import JobError, OptimizerSpec
from dfa_core.feedback.rules import FEEDBACK_RULES
from dfa_core.names import nearest
from dfa_core.optimizer import build_optimizer
from dfa_tasks import Task


def check_settings(settings: JobSettings) -> None:
    """Raise JobError for settings that no task could run with."""
    _check_code(settings)
    _check_ranges(settings)
    _check_batch(settings)
    _check_heads(settings)
    _check_delayed(settings)
    _check_graphs(settings)
    _check_backward(settings)
    _check_compiled(settings)
    _check_hops(settings)
    _check_forward(settings)
    _check_recompute(settings)
    _check_reading(settings)
    check_trackers(settings.trackers)


def _check_code(settings: JobSettings) -> None:
    if settings.code:  # a service has put it in its place, and left this out
        raise JobError(
            "code: is for jobs that are submitted to a service; remove it, and name the task's file"
        )


def _check_ranges(settings: JobSettings) -> None:
    optimizer, feedback, resources = settings.optimizer, settings.feedback, settings.resources
    rate_factor = settings.faults.rate_factor
    at_least_one = {
        "replicas": settings.replicas,
        "microbatches": settings.microbatches,
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        "checkpoint.keep": settings.checkpoint.keep,
        "log_every": settings.log_every,
        "optimizer.patience": optimizer.patience,
    }
    above_zero = {
        "optimizer.lr": optimizer.lr,
        "feedback.scale": feedback.scale,
        "feedback.keep": feedback.keep,
        "resources.cpus": resources.cpus,
        "resources.timeout_s": resources.timeout_s,
        "faults.rate_factor": rate_factor,
    }
    not_negative = {
        "optimizer.clip_norm": optimizer.clip_norm,
        "resources.gpus": resources.gpus,
        "resources.coordinator_gpus": resources.coordinator_gpus,
    }
    _require({name: (n, n >= 1) for name, n in at_least_one.items()}, "at least 1")
    _require({name: (x, x > 0) for name, x in above_zero.items()}, "above 0")
    _require({name: (x, x >= 0) for name, x in not_negative.items()}, "0 or above")
    _require({"ema": (settings.ema, 0 <= settings.ema < 1)}, "from 0 to below 1")
    _require({"feedback.keep": (feedback.keep, feedback.keep <= 1)}, "at most 1")
    _require({"faults.rate_factor": (rate_factor, rate_factor < 1)}, "below 1")
    if settings.seed >= 2**63:
        raise JobError(f"seed: {settings.seed} must be below 2**63")


def _require(checked: Mapping[str, tuple[float, bool]], what: str) -> None:
    """Raise JobError for the first field whose value is not as required."""
    for name, (value, holds) in checked.items():
        if not holds:
            raise JobError(f"{name}: {value:g} must be {what}")


def _check_batch(settings: JobSettings) -> None:
    size, microbatches = settings.batch_size, settings.microbatches
    if size % microbatches:
        divisors = [m for m in range(1, 65) if size % m == 0]
        best = min(divisors, key=lambda m: abs(m - microbatches))
        raise JobError(
            f"microbatches: {microbatches} does not divide batch_size {size}; {best} does"
        )
    if microbatches % settings.replicas:
        raise JobError(
            f"replicas: {settings.replicas} does not divide microbatches {microbatches}, which "
            f"replicas share"
        )


def _check_heads(settings: JobSettings) -> None:
    heads, microbatches = settings.heads, settings.microbatches // settings.replicas
    if heads > microbatches:
        raise JobError(
            f"heads: {heads} are more than the {microbatches} microbatch(es) of a replica, which "
            f"they share; set it to {microbatches} or less"
        )
    if heads and settings.resources.head != "auto":
        raise JobError(
            f"resources.head: {settings.resources.head} is where the head is without workers of "
            f"its own, and heads: {heads} asks for some; set heads to 0, or head to auto"
        )


def _check_delayed(settings: JobSettings) -> None:
    if settings.staleness and settings.method == "shallow":
        raise JobError(
            "staleness: method shallow has no delayed mode; set it to 0, or use method dfa or bp"
        )
    kind = settings.feedback.kind
    if settings.staleness and settings.method == "dfa" and FEEDBACK_RULES[kind].matrix_changes:
        raise JobError(
            f"staleness: delayed mode needs feedback matrices that do not change, and "
            f"feedback.kind={kind} changes them; set it to 0, or use random"
        )


def _check_graphs(settings: JobSettings) -> None:
    if settings.resources.cuda_graphs and not settings.resources.gpus:
        raise JobError(
            "resources.cuda_graphs: needs GPUs; set resources.gpus above 0, or cuda_graphs to false"
        )
    if settings.resources.cuda_graphs and settings.staleness:
        raise JobError(
            "resources.cuda_graphs: delayed mode computes with other weights at each step, which a "
            "captured graph cannot do; set cuda_graphs to false, or staleness to 0"
        )


def _check_compiled(settings: JobSettings) -> None:
    if not settings.compiled:
        return
    resources = settings.resources
    obstacles = {
        "method bp takes a layer's graph apart": settings.method == "bp",
        "delayed mode computes with copies of the weights": bool(settings.staleness),
        "hops run through a block's graph again and again": bool(settings.feedback.hops),
        "recomputation needs a graph of its own": resources.recompute,
        "CUDA graphs capture the layers' own kernels": resources.cuda_graphs,
    }
    for why, there in obstacles.items():
        if there:
            raise JobError(f"compiled: {why}; set compiled to false")


def _check_hops(settings: JobSettings) -> None:
    feedback, resources = settings.feedback, settings.resources
    _require(
        {"feedback.damping": (feedback.damping, 0 <= feedback.damping < 1)}, "from 0 to below 1"
    )
    if not feedback.hops:
        return
    if settings.method == "dfa" and feedback.kind != "identity":
        raise JobError(
            f"feedback.hops: {feedback.hops} are hops through residual layers, for "
            f"feedback.kind=identity; this is {feedback.kind}: set hops to 0, or use identity"
        )
    if resources.recompute or resources.cuda_graphs:
        raise JobError(
            "feedback.hops: hops run through a block's graph again and again; set "
            "resources.recompute and resources.cuda_graphs to false"
        )


def _check_forward(settings: JobSettings) -> None:
    feedback, resources = settings.feedback, settings.resources
    if settings.method != "dfa" or feedback.kind != "forward":
        return
    obstacles = {
        "compiled: compiled code has no forward-mode derivatives; set it to false":
            settings.compiled,
        "resources.cuda_graphs: a captured graph has no forward-mode derivatives; set it to false":
            resources.cuda_graphs,
        f"feedback.sent_as: {feedback.sent_as} gives the error and its derivative one "
        f"scale; use fp32 or bf16": feedback.sent_as not in ("fp32", "bf16"),
    }  # fmt: skip
    for what, there in obstacles.items():
        if there:
            raise JobError(f"{what}, or feedback.kind to another than forward")


def _check_backward(settings: JobSettings) -> None:
    resources = settings.resources
    for name, asked in (("cuda_graphs", resources.cuda_graphs), ("recompute", resources.recompute)):
        if asked and settings.method == "bp":
            raise JobError(
                f"resources.{name}: method bp cannot do this; set it to false, or use method dfa"
            )
    if resources.backward_schedule != "1f1b" and settings.method != "bp":
        raise JobError(
            f"resources.backward_schedule: method {settings.method} has no backward pass through "
            f"the blocks; set it to 1f1b, or use method bp"
        )


def _check_recompute(settings: JobSettings) -> None:
    if not settings.resources.recompute:
        return
    if settings.staleness:
        raise JobError(
            "resources.recompute: in delayed mode the weights change before a forward is computed "
            "again; set recompute to false, or staleness to 0"
        )
    if settings.resources.cuda_graphs:
        raise JobError(
            "resources.recompute: a captured graph keeps what it computed; set recompute or "
            "cuda_graphs to false"
        )


def _check_reading(settings: JobSettings) -> None:
    if not settings.resources.sharded_reading:
        return
    if not settings.resources.data_workers:
        raise JobError(
            "resources.sharded_reading: the first block of each replica reads in processes; set "
            "resources.data_workers to 1 or more, or sharded_reading to false"
        )


def check_with_task(settings: JobSettings, task: Task, layers: int) -> None:
    """Raise JobError where settings and task do not fit each other.

    layers: of the task's model, without the head.
    """
    if task.full_batch and settings.microbatches > 1:
        raise JobError(
            f"microbatches: {settings.microbatches}: this task needs its whole batch at once, so "
            f"it cannot be split; set it to 1"
        )
    known = ["", "loss", *task.metrics, *task.global_metrics, *task.derived_metrics]
    if settings.stopping.metric not in known:
        hint = nearest(settings.stopping.metric, known[1:])
        raise JobError(f"stopping.metric: unknown '{settings.stopping.metric}'; {hint}")
    _check_feedback(settings, task)
    if not 1 <= settings.blocks <= layers:
        raise JobError(
            f"blocks: {settings.blocks} is not between 1 and the model's {layers} layer(s)"
        )


def _check_feedback(settings: JobSettings, task: Task) -> None:
    if settings.method != "dfa":
        return
    kind, skips = settings.feedback.kind, settings.faults.non_finite == "skip"
    rule = FEEDBACK_RULES[kind]
    if rule.matrix_changes and skips and settings.replicas > 1:
        raise JobError(
            f"faults.non_finite: with feedback.kind={kind}, skip could leave one replica without "
            f"the matrices that the others have drawn; use stop or roll_back, or one replica"
        )
    remedy = f", or set {task.remedies[kind]}" if kind in task.remedies else ""
    if rule.broadcast == "target" and task.error_at == "input":
        raise JobError(
            f"feedback.kind: {kind} replaces the error at the head's output, and this task takes "
            f"the error at the head's input; use random{remedy}"
        )
    if not rule.sends_error and remedy:
        raise JobError(
            f"feedback.kind: {kind} does not send the error itself, and this task has layers that "
            f"learn by it; use random{remedy}"
        )
    if rule.broadcast == "target" and skips:
        raise JobError(
            f"faults.non_finite: skip needs the error, which feedback.kind={kind} does not send; "
            f"use stop or roll_back"
        )


def check_optimizer(optimizer: OptimizerSpec, layers: int) -> None:
    """Raise JobError for an optimizer that cannot be built, or for a layer that does not exist.

    layers: of the model, without the head.
    """
    names = ["head", *map(str, range(layers))]
    for name in optimizer.layer_options:
        if name not in names:
            raise JobError(
                f"optimizer.layer_options: there is no layer '{name}'; {nearest(name, names)}"
            )
    for name in ("", *optimizer.layer_options):
        build_optimizer(optimizer.for_module(name), [torch.nn.Parameter(torch.zeros(1))])
