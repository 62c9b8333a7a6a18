"""How a job's record changes: by a report of its actor, by a loss, by a client's request.

Each function changes the record it is given and returns the events to store with it.
"""

from collections.abc import Mapping
from typing import Any

from errorcast.v1.event_pb2 import SEVERITY_WARNING, Event, Failure, Scaling

from coordinator.service.errors import plain
from coordinator.service.jobs.events import events_of, log
from coordinator.service.jobs.record import Record, replicas_of
from coordinator.service.jobs.states import (
    CANCELLED,
    FAILED,
    FINAL,
    PAUSED,
    QUEUED,
    RUNNING,
    STARTING,
    SUCCEEDED,
)
from coordinator.training import events as run_events
from coordinator.training.events import Event as RunEvent

_LOSSES = 3


def apply_report(record: Record, report: RunEvent) -> list[Event]:
    """Apply one report of the training actor."""
    if isinstance(report, run_events.Metrics) and report.step <= record.logged:
        return []  # a repeated step after a lost start; its bits are the same
    events = list(events_of(report))
    match report:
        case run_events.TrainingStarted() if record.job.state == STARTING:
            events.append(record.go_to(RUNNING, f"started at step {report.step}"))
        case run_events.Metrics():
            record.logged = report.step
        case run_events.RolledBack():
            record.logged = report.step  # the steps after it are computed again
        case run_events.Evaluation():
            record.job.metrics.clear()
            record.job.metrics.update(report.scores)
        case run_events.CheckpointWritten():
            record.losses = 0
        case run_events.Failed():
            events.append(record.go_to(FAILED, plain(report.message)))
        case run_events.Finished():
            events += _end_start(record, report.summary)
    return events


def _end_start(record: Record, summary: Mapping[str, Any]) -> list[Event]:
    """End a start that went well: at the job's last step, or where it was asked to stop."""
    step = summary["steps"]
    if summary["finished"]:
        return [record.go_to(SUCCEEDED, f"trained to step {step}")]
    if record.wanted == "cancel":
        return [record.go_to(CANCELLED, f"cancelled at step {step}")]
    if record.wanted == "pause":
        return [record.go_to(PAUSED, f"paused at step {step}")]
    events = rescale(record)
    reason = f"scaled at step {step}" if events else f"the service stopped at step {step}"
    return [*events, record.go_to(QUEUED, reason)]


def lose_actor(record: Record, why: str) -> list[Event]:
    """Put a job whose actor was lost back into the queue, or fail it after too many losses."""
    record.losses += 1
    if record.losses > _LOSSES:
        reason = f"its training actor was lost {record.losses} times without a new checkpoint"
        return [record.go_to(FAILED, reason)]
    text = "its training actor was lost; it resumes from its newest checkpoint"
    warning = log(SEVERITY_WARNING, f"{text} ({plain(why)})")
    return [warning, record.go_to(QUEUED, text)]


def fail(record: Record, why: str) -> list[Event]:
    """Fail a job that cannot start."""
    return [
        Event(failure=Failure(message=plain(why), job_is_wrong=True)),
        record.go_to(FAILED, plain(why)),
    ]


def rescale(record: Record) -> list[Event]:
    """Give a job without workers the wanted shape."""
    if not record.scaling:
        return []
    before, after = record.job.spec, record.coming
    scaling = Scaling(
        from_blocks=before.blocks,
        to_blocks=after.blocks,
        from_replicas=replicas_of(before),
        to_replicas=replicas_of(after),
        from_heads=before.heads,
        to_heads=after.heads,
    )
    record.job.spec.CopyFrom(after)
    record.scaling = b""
    return [Event(scaling=scaling)]


def cancel_now(record: Record) -> list[Event]:
    """Cancel a job in any state that is not final; the supervisor ends its actor afterwards."""
    if record.job.state in FINAL:
        return []
    record.wanted = "cancel"
    return [record.go_to(CANCELLED, f"cancelled at step {record.job.progress.step}")]
