"""From what a training actor reports to the events that clients see."""

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

__all__ = ["SEVERITY_ERROR", "SEVERITY_INFO", "SEVERITY_WARNING", "events_of", "log", "progress_of"]


def log(severity: Severity.ValueType, text: str, step: int = 0) -> Event:
    """Return a log line."""
    return Event(log=LogLine(severity=severity, text=text[:_LONGEST], step=step))


def events_of(told: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events that tell of one report; changes of state are the supervisor's."""
    match told["event"]:
        case "plan":
            yield Event(plan=Plan(layers=[PlannedLayer(**layer) for layer in told["layers"]]))
            yield log(SEVERITY_INFO, f"links: {told['links']}")
        case "workers":
            yield log(SEVERITY_INFO, f"{len(told['processes'])} workers started")
        case "warning" | "fault" | "recovered" | "rolled_back" | "rate_cut":
            yield log(SEVERITY_WARNING, told["message"])
        case "resumed":
            yield log(SEVERITY_INFO, f"goes on from step {told['step']}", told["step"])
        case "metrics":
            yield Event(metrics=Metrics(**_without(told, "event")))
        case "evaluation":
            yield Event(evaluation=Evaluation(**_without(told, "event")))
        case "checkpoint":
            yield Event(checkpoint=Checkpoint(step=told["step"]))
        case "failed":
            yield log(SEVERITY_ERROR, told["traceback"])
            yield Event(failure=Failure(message=told["message"], job_is_wrong=told["code"] == 2))


def progress_of(told: Mapping[str, Any]) -> Progress:
    """Return the newest figures of a job."""
    return Progress(
        step=told["step"],
        total_steps=told["total"],
        samples=told["samples"],
        loss=told["loss"],
        step_seconds=told["step_s"],
        processes=[ProcessLoad(**row) for row in told["processes"]],
    )


def _without(told: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in names}
