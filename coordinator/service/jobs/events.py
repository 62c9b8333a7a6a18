"""Turns what a training actor reports into the events that clients see."""

from collections.abc import Iterator
from dataclasses import asdict

from errorcast.v1.event_pb2 import (
    SEVERITY_ERROR,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    Checkpoint,
    Evaluation,
    Event,
    Failure,
    LogLine,
    Metrics,
    Plan,
    PlannedLayer,
    Severity,
)
from errorcast.v1.job_pb2 import ProcessLoad, Progress

from coordinator.training import events as run_events
from coordinator.training.events import Event as RunEvent

_LONGEST = 64 << 10  # characters of a log line


def log(severity: Severity.ValueType, text: str, step: int = 0) -> Event:
    """Return a log line."""
    return Event(log=LogLine(severity=severity, text=text[:_LONGEST], step=step))


def events_of(report: RunEvent) -> Iterator[Event]:
    """Yield the events that clients see of one report, except changes of the job's state."""
    match report:
        case run_events.PlanMade():
            yield Event(plan=Plan(layers=[PlannedLayer(**layer) for layer in report.layers]))
            yield log(SEVERITY_INFO, f"links: {report.links}")
        case run_events.WorkersStarted():
            yield log(SEVERITY_INFO, f"{len(report.processes)} worker(s) started")
        case run_events.Resumed():
            yield log(SEVERITY_INFO, report.message, report.step)
        case run_events.Noted():
            yield log(SEVERITY_INFO, report.message)
        case run_events.Metrics():
            yield Event(metrics=Metrics(**asdict(report)))
        case run_events.Evaluation():
            yield Event(evaluation=Evaluation(**asdict(report)))
        case run_events.CheckpointWritten():
            yield Event(checkpoint=Checkpoint(step=report.step))
        case run_events.Failed(message, job_is_wrong, traceback):
            yield log(SEVERITY_ERROR, traceback)
            yield Event(failure=Failure(message=message, job_is_wrong=job_is_wrong))
        case _ if isinstance(report, run_events.Notice):
            yield log(SEVERITY_WARNING, report.message)


def progress_of(report: run_events.Progress) -> Progress:
    """Return the newest numbers of a job."""
    return Progress(
        step=report.step,
        total_steps=report.total,
        samples=report.samples,
        loss=report.loss,
        step_seconds=report.step_s,
        processes=[ProcessLoad(**row) for row in report.processes],
    )
