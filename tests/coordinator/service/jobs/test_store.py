"""Jobs and events on disk: all of a change or nothing, through a close and a full disk."""

import sqlite3
from pathlib import Path

import pytest
from errorcast.v1.event_pb2 import Event, LogLine
from errorcast.v1.job_pb2 import JobSpec

from coordinator.service.errors import ServiceError
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import QUEUED, STARTING
from coordinator.service.jobs.store import Store
from dfa_core import JobError

SPEC = JobSpec(task="digits", blocks=2)


def add(store: Store, request: str = "request-1") -> Record:
    return store.add(SPEC, request, SPEC.SerializeToString(), "digits", 0)


def lines(*texts: str) -> list[Event]:
    return [Event(log=LogLine(text=text)) for text in texts]


def test_everything_is_there_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = add(store).copy()
    job.followed, job.logged, job.losses, job.wanted = 7, 5, 2, "pause"
    job.scaling, job.actor = JobSpec(blocks=3, replicas=2).SerializeToString(), "spare.1"
    store.save(job, [job.go_to(STARTING, "now"), *lines("a", "b")])
    store.close()
    again = Store(tmp_path)
    found = again.get("digits-0001")
    assert found == job
    events = again.events("digits-0001", 0, 100)
    assert [event.number for event in events] == [1, 2, 3, 4]
    assert events[0].state.state == QUEUED
    assert [event.log.text for event in again.events("digits-0001", 2, 100)] == ["a", "b"]
    assert again.submitted_as("request-1", SPEC.SerializeToString()) == job
    with pytest.raises(ServiceError, match="REUSED"):
        again.submitted_as("request-1", b"another")
    assert add(again, "request-2").job.id == "digits-0002"
    again.close()


def test_events_from_memory_are_those_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = add(store)
    for i in range(100):
        job = job.copy()
        store.save(job, lines(*(f"{i}-{k}" for k in range(5))))
    for after in (0, 1, 243, 244, 245, 246, 400, 500, 501, 2**64 - 1):
        from_memory = store.events(job.job.id, after, 50)
        store._recent.clear()
        assert from_memory == store.events(job.job.id, after, 50)
        store.save(store._jobs[job.job.id], [])
    store.close()


def test_a_revision_tells_which_jobs_changed_since(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = add(store), add(store, "request-2")
    known = store.revision
    assert store.changed_since(known) == []
    store.note_progress(second.copy())
    assert [r.job.id for r in store.changed_since(known)] == [second.job.id]
    known = store.revision
    store.save(first.copy(), lines("a"))
    store.delete(second)
    changed = store.changed_since(known)
    assert {r.job.id: r.deleted for r in changed} == {first.job.id: False, second.job.id: True}
    assert store.changed_since(store.revision) == []
    store.close()
    again = Store(tmp_path)
    assert again.revision == 0
    again.close()


def test_a_folder_has_one_service(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(JobError, match="used by another service"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = add(store)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")  # SQLite's own limit
    changed = job.copy()
    with pytest.raises(ServiceError, match="DISK_FULL"):
        store.save(changed, [changed.go_to(STARTING, "now"), *lines("x" * 100_000)])
    with pytest.raises(ServiceError, match="DISK_FULL"):
        for number in range(10_000):
            add(store, f"request-{number + 10}")
    assert store.get(job.job.id).job.state == QUEUED
    count = len(store.newest_first())
    store.close()
    again = Store(tmp_path)
    assert len(again.newest_first()) == count
    assert [e.number for e in again.events(job.job.id, 0, 9)] == [1]
    again.close()


def test_a_deleted_job_leaves_no_events_and_keeps_its_request(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.delete(add(store))
    assert store.get("digits-0001") is None
    assert store.get("latest") is None
    assert store.was_deleted("digits-0001")
    assert store.events("digits-0001", 0, 9) == []
    assert store.submitted_as("request-1", SPEC.SerializeToString()) is not None
    store.close()


def test_another_format_is_not_touched(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store._db.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(JobError, match="is of format 99"):
        Store(tmp_path)


def left_by_version(folder: Path, version: int, **columns: int) -> Record:
    """Make a folder as an older version leaves it, with these columns; return its job."""
    store = Store(folder)
    job = add(store)
    store.close()
    with sqlite3.connect(folder / "jobs.sqlite") as old:
        old.execute("ALTER TABLE jobs DROP COLUMN scaling")
        for column, value in columns.items():
            old.execute(f"ALTER TABLE jobs ADD COLUMN {column} INTEGER NOT NULL DEFAULT {value}")
        old.execute(f"PRAGMA user_version={version}")
    return job


def test_a_folder_of_the_version_before_replicas_is_taken_over(tmp_path: Path) -> None:
    job = left_by_version(tmp_path, 1, wanted_blocks=0)
    for _ in range(2):
        again = Store(tmp_path)
        assert again.get(job.job.id) == job
        again.close()


def test_a_scaling_that_an_older_version_had_begun_is_done(tmp_path: Path) -> None:
    job = left_by_version(tmp_path, 2, wanted_blocks=3, wanted_replicas=2)
    again = Store(tmp_path)
    taken = again.get(job.job.id)
    assert taken is not None
    assert (taken.coming.blocks, taken.coming.replicas) == (3, 2)
    again.close()
