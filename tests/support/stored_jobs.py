"""A state folder of many jobs, as a service leaves it; the store's own code makes them, no run."""

import math
from dataclasses import dataclass
from pathlib import Path

from errorcast.v1.job_pb2 import METHOD_BP, METHOD_DFA, JobSpec
from google.protobuf.json_format import ParseDict

from coordinator.service.api.requests import id_stem
from coordinator.service.jobs.events import progress_of
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import CANCELLED, PAUSED, STARTING
from coordinator.service.jobs.store import Store
from coordinator.service.jobs.transitions import apply_report
from coordinator.training import events as run_events

HTML = "<img src=x onerror=\"document.title='taken over'\">"
OWNERS = ("alice", "bob", f"carol {HTML}")
STEPS, EPOCHS = 100, 10


@dataclass(frozen=True)
class Ending:
    """What becomes of a job: SUCCEEDED, FAILED, CANCELLED, PAUSED, RUNNING or QUEUED."""

    state: str
    loss: float


def fill(folder: Path, count: int) -> dict[str, Ending]:
    """Store jobs, oldest first: most have succeeded. Return how each ended, by its id."""
    store, made = Store(folder), dict[str, Ending]()
    for number in range(count):
        state = {3: "FAILED", 5: "CANCELLED", 7: "PAUSED", 9: "QUEUED"}.get(
            number % 20, "SUCCEEDED"
        )
        ending = Ending("RUNNING" if number == count - 1 else state, 0.1 + number / count)
        made[_add(store, number, ending)] = ending
    store.close()
    return made


def _add(store: Store, number: int, ending: Ending) -> str:
    task = f"/jobs/{HTML}.py:make_task" if number % 10 == 4 else ("digits", "synthetic")[number % 2]
    values = {
        "task": task,
        "method": METHOD_BP if number % 4 == 1 else METHOD_DFA,
        "feedback": {"kind": "FEEDBACK_KIND_RANDOM"},
        "optimizer": {"name": "adam", "lr": 0.001},
        "blocks": 2,
        "replicas": 1,
        "epochs": EPOCHS,
        "batch_size": 64,
        "microbatches": 4,
    }
    spec = ParseDict(values, JobSpec())
    request, owner = f"request-{number:04d}", OWNERS[number % len(OWNERS)]
    sent = spec.SerializeToString()
    record = store.add(spec, request, sent, id_stem(task), 0, owner).copy()
    if ending.state == "QUEUED":
        return str(record.job.id)
    if ending.state == "PAUSED":
        store.save(record, [record.go_to(PAUSED, "paused in the queue")])
        return str(record.job.id)
    record.job.started.GetCurrentTime()
    record.job.starts = 1
    store.save(record, [record.go_to(STARTING, "its workers are being started")])
    _train(store, record, ending)
    return str(record.job.id)


def _train(store: Store, record: Record, ending: Ending) -> None:
    done = STEPS if ending.state == "SUCCEEDED" else STEPS // 2
    reports: list[run_events.Event] = [run_events.TrainingStarted(0, STEPS)]
    for step in range(5, done + 1, 5):
        loss = ending.loss + math.exp(-step / 20)
        reports.append(run_events.Metrics(step, loss, 0.001, 5000.0))
        if step % (STEPS // EPOCHS) == 0:
            scores = {"loss": loss, "accuracy": 1 - loss / 3}
            epoch = step * EPOCHS // STEPS
            reports.append(run_events.Evaluation(step, epoch, EPOCHS, "test", scores))
    if ending.state == "SUCCEEDED":
        reports.append(run_events.Finished({"steps": done, "finished": True}))
    elif ending.state == "FAILED":
        reports.append(run_events.Failed(f"the layer gives up: {HTML}", False, "a trace"))
    loads = [{"process": f"block {n}", "layers": str(n), "busy": 0.5} for n in (1, 2)]
    progress = run_events.Progress(done, STEPS, done * 64, ending.loss, 0.5, loads)
    record.job.progress.CopyFrom(progress_of(progress))
    store.save(record, [event for report in reports for event in apply_report(record, report)])
    if ending.state == "CANCELLED":
        store.save(record, [record.go_to(CANCELLED, f"cancelled at step {done}")])
