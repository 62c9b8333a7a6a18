"""Turns what a training actor reports into the events that clients see."""

from collections.abc import Iterator, Mapping
from typing import Any

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

_LONGEST = 64 << 10  # characters of a log line


def log(severity: Severity.ValueType, text: str, step: int = 0) -> Event:
    """Return a log line."""
    return Event(log=LogLine(severity=severity, text=text[:_LONGEST], step=step))


def events_of(report: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of one report, except changes of the job's state."""
    match report["event"]:
        case "plan":
            yield Event(plan=Plan(layers=[PlannedLayer(**layer) for layer in report["layers"]]))
            yield log(SEVERITY_INFO, f"links: {report['links']}")
        case "workers":
            yield log(SEVERITY_INFO, f"{len(report['processes'])} workers started")
        case "warning" | "fault" | "recovered" | "rolled_back" | "rate_cut":
            yield log(SEVERITY_WARNING, report["message"])
        case "resumed":
            yield log(SEVERITY_INFO, f"resumed from step {report['step']}", report["step"])
        case "metrics":
            yield Event(metrics=Metrics(**_without(report, "event")))
        case "evaluation":
            yield Event(evaluation=Evaluation(**_without(report, "event")))
        case "checkpoint":
            yield Event(checkpoint=Checkpoint(step=report["step"]))
        case "failed":
            yield log(SEVERITY_ERROR, report["traceback"])
            wrong = report["code"] == 2
            yield Event(failure=Failure(message=report["message"], job_is_wrong=wrong))


def progress_of(report: Mapping[str, Any]) -> Progress:
    """Return the newest numbers of a job."""
    return Progress(
        step=report["step"],
        total_steps=report["total"],
        samples=report["samples"],
        loss=report["loss"],
        step_seconds=report["step_s"],
        processes=[ProcessLoad(**row) for row in report["processes"]],
    )


def _without(report: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in names}
