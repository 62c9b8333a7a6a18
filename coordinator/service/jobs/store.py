"""Jobs and their events in SQLite, in the state folder; each change is one transaction."""

import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from errorcast.v1.event_pb2 import Event, StateChange
from errorcast.v1.job_pb2 import Job, JobSpec, UploadedCode

from coordinator.service.errors import DISK_FULL, REUSED, ServiceError
from coordinator.service.jobs.record import Record
from coordinator.service.jobs.states import QUEUED
from dfa_core.atomic_file import locked_file
from dfa_core.errors import JobError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT NOT NULL UNIQUE,
  request BLOB NOT NULL,           -- the spec as it was submitted
  job BLOB NOT NULL,               -- errorcast.v1.Job
  wanted TEXT NOT NULL,
  actor TEXT NOT NULL,             -- name of the training actor of the current start
  followed INTEGER NOT NULL,       -- number of stored events of the current start
  logged INTEGER NOT NULL,         -- step of the newest stored metrics
  losses INTEGER NOT NULL,         -- starts in a row whose actor was lost
  deleted INTEGER NOT NULL,
  scaling BLOB NOT NULL DEFAULT x''  -- a JobSpec with the shape that is wanted; empty: no change
) STRICT;
CREATE TABLE IF NOT EXISTS events (
  job TEXT NOT NULL,
  number INTEGER NOT NULL,
  event BLOB NOT NULL,             -- errorcast.v1.Event
  PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
"""
_VERSION = 3
_FROM_1 = "ALTER TABLE jobs ADD COLUMN wanted_replicas INTEGER NOT NULL DEFAULT 0"
_FROM_2 = "ALTER TABLE jobs ADD COLUMN scaling BLOB NOT NULL DEFAULT x''"
_RECENT = 256  # events of a job that are also kept in memory


class Store:
    """All jobs: reads come from memory, and each change goes to disk first."""

    def __init__(self, folder: Path) -> None:
        """Open or create. Raises JobError when another service uses the folder, or nobody can."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock = ExitStack()
            self._lock.enter_context(locked_file(folder / "lock"))
        except BlockingIOError as error:
            raise JobError(
                f"state folder {folder}: is used by another service; give --state another folder"
            ) from error
        except OSError as error:
            raise JobError(f"state folder {folder}: cannot be used: {error}") from error
        try:
            self._db = sqlite3.connect(folder / "jobs.sqlite", isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if not 0 <= version <= _VERSION:
                raise JobError(
                    f"{folder / 'jobs.sqlite'}: is of format {version}, but this version of "
                    f"errorcast reads format {_VERSION}; give --state another folder"
                )
            if version in (1, 2):
                self._take_over(version)
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
            self._jobs = {record.job.id: record for record in self._read()}
        except sqlite3.Error as error:
            raise JobError(f"{folder / 'jobs.sqlite'}: cannot be used: {error}") from error
        self._recent: dict[str, deque[Event]] = {}
        self._revision = 0
        self._changed: dict[str, int] = {}  # the revision of each job that has changed since
        self._by_request = {r.request_id: r.job.id for r in self._jobs.values()}

    def _take_over(self, version: int) -> None:
        """Make the table of an older version this one's."""
        self._db.execute("BEGIN IMMEDIATE")
        if version == 1:
            self._db.execute(_FROM_1)
        self._db.execute(_FROM_2)
        pending = "SELECT number, wanted_blocks, wanted_replicas FROM jobs WHERE wanted_blocks"
        for number, blocks, replicas in self._db.execute(pending).fetchall():
            shape = JobSpec(blocks=blocks, replicas=replicas).SerializeToString()
            self._db.execute("UPDATE jobs SET scaling = ? WHERE number = ?", (shape, number))
        for column in ("wanted_blocks", "wanted_replicas"):
            self._db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        self._db.execute(f"PRAGMA user_version={_VERSION}")
        self._db.execute("COMMIT")

    def _read(self) -> Iterable[Record]:
        columns = (
            *("number", "request_id", "request", "job", "wanted", "actor"),
            *("followed", "logged", "losses", "deleted", "scaling"),
        )
        for row in self._db.execute(f"SELECT {', '.join(columns)} FROM jobs ORDER BY number"):  # noqa: S608
            named = dict(zip(columns, row, strict=True))
            named["job"] = Job.FromString(named["job"])
            yield Record(**named)

    def submitted_as(self, request_id: str, request: bytes, owner: str = "") -> Record | None:
        """Return the job that was submitted with a request id, or None.

        Raises ServiceError when that job has another spec, or another owner.
        """
        if request_id not in self._by_request:
            return None
        record = self._jobs[self._by_request[request_id]]
        if record.request != request or record.job.owner not in ("", owner):
            raise ServiceError(REUSED, f"request id {request_id} was used for another job")
        return record

    def add(
        self,
        spec: JobSpec,
        request_id: str,
        request: bytes,
        stem: str,
        priority: int,
        owner: str = "",
        uploaded: UploadedCode | None = None,
    ) -> Record:
        """Put a job into the queue; its id is made of `stem` and its number."""
        with self._transaction():
            # the insertion gives the number, which the id needs
            number: int = self._db.execute(
                "INSERT INTO jobs (id, request_id, request, job, wanted, actor, followed, logged, "
                "losses, deleted) "
                "VALUES (?, ?, ?, x'', 'run', '', 0, 0, 0, 0) RETURNING number",
                (f"new-{request_id}", request_id, request),
            ).fetchone()[0]
            job = Job(id=f"{stem}-{number:04d}", spec=spec, state=QUEUED, priority=priority)
            job.reason, job.owner = "submitted", owner
            if uploaded is not None:
                job.uploaded.CopyFrom(uploaded)
            job.submitted.GetCurrentTime()
            record = Record(number, request_id, request, job)
            self._write(record, [Event(state=StateChange(state=QUEUED, reason="submitted"))])
        self._keep(record)
        self._by_request[request_id] = job.id
        return record

    def get(self, job_id: str, owner: str | None = None) -> Record | None:
        """Return a job, or None for one that is unknown or deleted.

        `latest` is the newest: of an owner's jobs, or of all where `owner` is None.
        """
        if job_id == "latest":
            newest = self.newest_first()
            return next((r for r in newest if owner in (None, r.job.owner)), None)
        record = self._jobs.get(job_id)
        return None if record is None or record.deleted else record

    def was_deleted(self, job_id: str) -> bool:
        """Return whether there was a job with this id that has been deleted."""
        record = self._jobs.get(job_id)
        return record is not None and record.deleted

    def newest_first(self) -> list[Record]:
        """Return all jobs that are not deleted, newest first."""
        return [r for r in reversed(self._jobs.values()) if not r.deleted]

    @property
    def revision(self) -> int:
        """Return a number that grows with each change of a job, from 0 when the store is opened."""
        return self._revision

    def changed_since(self, revision: int) -> list[Record]:
        """Return the jobs that were added, changed or deleted after a revision of this store."""
        return [self._jobs[job_id] for job_id, at in self._changed.items() if at > revision]

    def save(self, record: Record, events: Sequence[Event] = ()) -> None:
        """Write a changed record and its new events to disk, all or nothing; number the events."""
        with self._transaction():
            self._write(record, events)
        self._keep(record)
        if events:
            recent = self._recent.setdefault(record.job.id, deque(maxlen=_RECENT))
            recent.extend(events)

    def note_progress(self, record: Record) -> None:
        """Keep a record with new progress in memory only."""
        self._keep(record)

    def delete(self, record: Record) -> None:
        """Delete a job's events and mark it as deleted; its request id stays used."""
        gone = record.copy()
        gone.deleted = True
        with self._transaction():
            self._db.execute("DELETE FROM events WHERE job = ?", (record.job.id,))
            self._write(gone, [])
        self._keep(gone)
        self._recent.pop(record.job.id, None)

    def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return the events after a number, in order, at most `limit`."""
        recent = self._recent.get(job_id)
        if recent and after >= recent[0].number - 1:  # so for most watchers
            return [event for event in recent if event.number > after][:limit]
        rows = self._db.execute(
            "SELECT event FROM events WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
            (job_id, min(after, 2**62), limit),
        )
        return [Event.FromString(event) for (event,) in rows]

    def close(self) -> None:
        """Close the database and release the folder."""
        self._db.close()
        self._lock.close()

    def _keep(self, record: Record) -> None:
        self._revision += 1
        self._jobs[record.job.id] = record
        self._changed[record.job.id] = self._revision

    def _write(self, record: Record, events: Sequence[Event]) -> None:
        for event in events:
            record.job.events += 1
            event.number = record.job.events
            event.time.FromNanoseconds(time.time_ns())
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?)",
                (record.job.id, event.number, event.SerializeToString()),
            )
        self._db.execute(
            "UPDATE jobs SET id = ?, job = ?, wanted = ?, actor = ?, followed = ?, logged = ?, "
            "losses = ?, deleted = ?, scaling = ? "
            "WHERE number = ?",
            (
                record.job.id,
                record.job.SerializeToString(),
                record.wanted,
                record.actor,
                record.followed,
                record.logged,
                record.losses,
                record.deleted,
                record.scaling,
                record.number,
            ),
        )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._db.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.OperationalError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise ServiceError(DISK_FULL, f"the state folder cannot be written: {error}") from error
        if kind is not None and issubclass(kind, sqlite3.OperationalError):
            raise ServiceError(DISK_FULL, "the state folder cannot be written")
