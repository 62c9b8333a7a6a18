"""Turns jobs and events into text for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from errorcast.v1.event_pb2 import Evaluation, Event, Severity
from errorcast.v1.job_pb2 import Job, JobSpec, JobState, Progress

from coordinator.cli.epochs import Scored
from coordinator.experiments.text.layout import Column
from coordinator.experiments.text.table import TextTable
from coordinator.job.code_listing import size_text


def _workers_text(blocks: int, heads: int, replicas: int) -> str:
    """Return `2 block(s)`, `2 block(s) x 3 replicas` or `(2 block(s) + 1 head(s)) x 3 replicas`."""
    each = f"{blocks} block(s)" + (f" + {heads} head(s)" if heads else "")
    return _times(each, heads, replicas, " replicas")


def shape_text(spec: JobSpec) -> str:
    """Return a job's blocks, heads and replicas: `2`, `2 + 1`, `2 x 3` or `(2 + 1) x 3`."""
    each = f"{spec.blocks} + {spec.heads}" if spec.heads else str(spec.blocks)
    return _times(each, spec.heads, spec.replicas)


def _times(each: str, heads: int, replicas: int, unit: str = "") -> str:
    """Return what each replica has, times the replicas if there are several."""
    if replicas < 2:
        return each
    return f"({each}) x {replicas}{unit}" if heads else f"{each} x {replicas}{unit}"


def state_name(state: JobState.ValueType) -> str:
    """Return the name of a state for people: RUNNING."""
    return JobState.Name(state).removeprefix("JOB_STATE_")


def job_line(job: Job) -> str:
    """Return a job on one line."""
    line = f"{job.id}  {state_name(job.state)}  {job.reason}"
    done = progress_text(job.progress)
    return f"{line}  {done}" if done else line


def job_table(found: Sequence[Job]) -> TextTable:
    """Return jobs as a table; their owners only if there are several."""
    owned = len({job.owner for job in found}) > 1
    return TextTable(
        title="",
        columns=[
            Column("job"),
            *([Column("owner")] if owned else []),
            Column("state"),
            Column("blocks", right=True, optional=1),
            Column("submitted, UTC", optional=2),
            Column("step", right=True),
            Column("loss", right=True, optional=3),
            Column("reason"),
        ],
        rows=[
            (
                job.id,
                *([job.owner] if owned else []),
                state_name(job.state),
                shape_text(job.spec),
                moment(job.submitted)[: len("2026-01-31 12:00")],
                *_step_and_loss(job.progress),
                job.reason,
            )
            for job in found
        ],
        more="--format json",
    )


def _step_and_loss(progress: Progress) -> tuple[str, str]:
    if not progress.step:
        return "", ""
    return f"{progress.step}/{progress.total_steps}", f"{progress.loss:.4f}"


def uploaded_text(job: Job) -> str:
    """Return what code a job was submitted with: `code: 3 files, 12.3 KiB, 9f86d081884c`."""
    code = job.uploaded
    packages = ", with packages of its own" if code.packages else ""
    files = "1 file" if code.files == 1 else f"{code.files} files"
    return f"code: {files}, {size_text(code.bytes)}, {job.spec.code[:12]}{packages}"


def progress_text(progress: Progress) -> str:
    """Return the step, loss and speed of a job; empty before its first step."""
    if not progress.step:
        return ""
    step = f"step {progress.step}/{progress.total_steps}"
    return f"{step}  loss {progress.loss:.4f}  {1e3 * progress.step_seconds:.2f} ms per step"


def moment(timestamp: Any) -> str:
    """Return a time in UTC; empty for a timestamp that is not set."""
    if not timestamp.seconds:
        return ""
    return datetime.fromtimestamp(timestamp.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def scored(one: Evaluation) -> Scored:
    """Return an evaluation as all verbs show it."""
    return Scored(one.epoch, one.epochs, one.data or "test", dict(sorted(one.scores.items())))


def event_line(event: Event) -> str:
    """Return an event as one line; a stack trace keeps its lines."""
    return f"{moment(event.time)}  {_what(event)}"


def _what(event: Event) -> str:
    kind = event.WhichOneof("kind")
    match kind:
        case "log":
            severity = Severity.Name(event.log.severity).removeprefix("SEVERITY_").lower()
            return f"{severity}: {event.log.text}"
        case "state":
            return f"{state_name(event.state.state)}: {event.state.reason}"
        case "plan":
            blocks = len({layer.block for layer in event.plan.layers})
            return f"plan: {len(event.plan.layers)} layers on {blocks} block(s)"
        case "metrics":
            m = event.metrics
            return f"step {m.step}  loss {m.loss:.4f}  {m.samples_per_s:,.0f} samples/s"
        case "evaluation":
            return scored(event.evaluation).line
        case "checkpoint":
            return f"saved at step {event.checkpoint.step}"
        case "scaling":
            s = event.scaling
            before = _workers_text(s.from_blocks, s.from_heads, s.from_replicas)
            return (
                f"scaled from {before} to {_workers_text(s.to_blocks, s.to_heads, s.to_replicas)}"
            )
        case "failure":
            return f"failed: {event.failure.message}"
    return str(kind)
