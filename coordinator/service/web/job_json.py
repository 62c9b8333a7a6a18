"""What the page gets of jobs and their events, as objects of JSON. Times are Unix seconds."""

import time
from collections.abc import Sequence
from typing import Any

from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import METHOD_DFA, FeedbackKind, Job, JobSpec, Method
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.service.jobs.record import Record, replicas_of
from coordinator.service.jobs.states import FINAL, RUNNING, name


def job_row(record: Record) -> dict[str, Any]:
    """Return what the table shows of a job; null stands for what is not known."""
    job, progress = record.job, record.job.progress
    return {
        "id": job.id,
        "number": record.number,
        "task": job.spec.task,
        "method": _method(job.spec),
        "owner": job.owner,
        "state": name(job.state),
        "final": job.state in FINAL,
        "reason": job.reason,
        "step": progress.step,
        "total": progress.total_steps,
        "epochs": job.spec.epochs,
        "loss": progress.loss if progress.step else None,
        "metric": _metric(job),
        "seconds_left": seconds_left(record, time.monotonic()),
        "may_end_early": job.spec.stopping.patience > 0,
        "submitted": _moment(job.submitted),
        "started": _moment(job.started),
        "ended": _moment(job.ended),
        "events": job.events,
    }


def job_details(record: Record) -> dict[str, Any]:
    """Return what the page shows of an opened job beside its row."""
    job, spec = record.job, record.job.spec
    return {
        "id": job.id,
        "optimizer": spec.optimizer.name,
        "lr": spec.optimizer.lr,
        "batch_size": spec.batch_size,
        "microbatches": spec.microbatches,
        "seed": spec.seed,
        "blocks": spec.blocks,
        "replicas": replicas_of(spec),
        "heads": spec.heads,
        "starts": job.starts,
        "step_seconds": job.progress.step_seconds,
        "metrics": dict(job.metrics),
        "processes": [
            {"process": load.process, "layers": load.layers, "busy": load.busy}
            for load in job.progress.processes
        ],
    }


def seconds_left(record: Record, now: float) -> float | None:
    """Return how long a running job still needs; None for others, and before that is known.

    It is the number of steps that are left times the seconds of a step, by the clock, over the last
    minute. In the first moments of a start it is the median duration of the steps, without
    evaluations.

    now: seconds of the monotonic clock.
    """
    progress = record.job.progress
    if record.job.state != RUNNING or not record.pace.samples:
        return None
    seconds = record.pace.step_seconds(progress.step, now) or progress.step_seconds
    left: int = progress.total_steps - progress.step
    return left * seconds if seconds else None


def curves(events: Sequence[Event]) -> dict[str, Any]:
    """Return the points of a job's curves: training steps, and evaluations."""
    return {
        "training": [
            {"step": e.metrics.step, "time": _moment(e.time), "loss": e.metrics.loss}
            | {"lr": e.metrics.lr}
            for e in events
            if e.HasField("metrics")
        ],
        "evaluations": [
            {"step": e.evaluation.step, "time": _moment(e.time), "data": e.evaluation.data}
            | {"scores": dict(e.evaluation.scores)}
            for e in events
            if e.HasField("evaluation")
        ],
    }


def _metric(job: Job) -> dict[str, Any] | None:
    """Return the metric of the newest evaluation that the job is judged by, or its first."""
    names = sorted(set(job.metrics) - {"loss"})
    chosen = job.spec.stopping.metric
    if chosen not in names:
        chosen = names[0] if names else ""
    return {"name": chosen, "value": job.metrics[chosen]} if chosen else None


def _method(spec: JobSpec) -> str:
    """Return a method as job files name it, with its feedback where it has one."""
    method = Method.Name(spec.method).removeprefix("METHOD_").lower()
    if spec.method != METHOD_DFA:
        return method
    kind = FeedbackKind.Name(spec.feedback.kind).removeprefix("FEEDBACK_KIND_").lower()
    return f"{method}, {kind} feedback"


def _moment(timestamp: Timestamp) -> float | None:
    """Return a time in Unix seconds, None for one that is not set."""
    return round(timestamp.ToNanoseconds() / 1e9, 3) if timestamp.seconds else None
