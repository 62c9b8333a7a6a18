"""The life of a job: from the queue to its training actor, and to its end.

The store has every change before anything else acts on it. So a service that is killed at any
moment knows afterwards what it was about to do: a job's actor has a name made of job and start, it
starts only once, and it runs on without the service.
"""

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from errorcast.v1.event_pb2 import SEVERITY_INFO, Event

from coordinator.service.errors import DAMAGED, NO_CODE, ServiceError
from coordinator.service.jobs.admission import Quotas, admit, waiting_job
from coordinator.service.jobs.events import log, progress_of
from coordinator.service.jobs.job_code import JobCode
from coordinator.service.jobs.notifier import JobNotifier
from coordinator.service.jobs.pace import Pace
from coordinator.service.jobs.record import Record, workers_of
from coordinator.service.jobs.states import ACTIVE, QUEUED, RUNNING, STARTING, name
from coordinator.service.jobs.store import Store
from coordinator.service.jobs.transitions import apply_report, fail, lose_actor
from coordinator.service.processes.capacity import Capacity
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink
from coordinator.service.users import Users
from coordinator.training.events import Event as RunEvent
from coordinator.training.events import Progress

_FOLLOW_S = 0.5  # how long an actor waits for a new event before it answers
_POLL_S = 0.2  # shortest time between two requests to an actor
_QUEUE_S = 1.0
_END_S = 30.0  # how long a deleted job's files wait for the end of its actor
_SETTLE_S = 3.0  # until Ray reports the resources of an ended job as free
_SWEEP_S = 60.0

logger = logging.getLogger(__name__)


class Supervisor:
    """Starts, follows and ends the jobs of a store on a cluster."""

    def __init__(
        self,
        store: Store,
        cluster: ClusterLink,
        notifier: JobNotifier,
        jobs: Path,
        code: JobCode,
        users: Users,
    ) -> None:
        """jobs: the folder that holds the jobs' run folders."""
        self._store, self._cluster, self._notifier, self._jobs = store, cluster, notifier, jobs
        self._code, self._users = code, users
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended_at = 0.0

    def folder(self, job_id: str) -> Path:
        """Return a job's run folder."""
        return self._jobs / job_id

    def changed(self, job_id: str) -> None:
        """Act on a job whose record has changed, and notify its watchers."""
        self._notifier.notify(job_id)
        self._wake.set()

    async def remove_files(self, job_id: str) -> None:
        """Remove a deleted job's files, once the actor that may still write them has been ended."""
        follower = self._followers.get(job_id)
        if follower is not None:
            await asyncio.wait({follower}, timeout=_END_S)  # after that, the follower removes them
        await asyncio.to_thread(shutil.rmtree, self.folder(job_id), True)

    async def run(self) -> None:
        """Follow the active jobs and start queued ones when they fit; never returns."""
        swept = collected = 0.0
        while True:
            self._wake.clear()
            for record in self._store.newest_first():
                self._ensure_followed(record)
            if time.monotonic() - collected > _SWEEP_S:
                await self._code.collect(self._store.newest_first())
                collected = time.monotonic()
            try:
                if self._cluster.up and not self._stopping:
                    await self._start_what_fits()
                    if time.monotonic() - swept > _SWEEP_S:
                        await self._sweep()
                        swept = time.monotonic()
                    self._prepare()
                elif not self._stopping:
                    self._explain({r.job.id: self._cluster.why_down for r in self._queued()})
            except (ClusterDown, ChildError, ServiceError) as error:
                logger.warning("no queued job can start now: %s", error)
            try:
                await asyncio.wait_for(self._wake.wait(), _QUEUE_S)
            except TimeoutError:
                continue

    async def drain(self, seconds: float) -> None:
        """Start no more jobs; save and stop those that run. They resume with the next service."""
        self._stopping = True
        deadline = time.monotonic() + seconds
        while self._active() and time.monotonic() < deadline and self._cluster.up:
            await asyncio.sleep(_POLL_S)  # the followers ask the jobs to stop

    async def leave(self) -> None:
        """Stop following; the jobs run on by themselves."""
        self._stopping = True
        tasks = [*self._followers.values(), *([self._preparing] if self._preparing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _save(self, record: Record, events: Sequence[Event] = ()) -> None:
        """Store a change, then write it to the service's log."""
        for event in events:
            if event.HasField("log"):
                event.log.step = event.log.step or record.job.progress.step
        self._store.save(record, events)
        about = {"job": record.job.id, "step": record.job.progress.step}
        for event in events:
            if event.HasField("state"):
                logger.info("%s: %s", name(event.state.state), event.state.reason, extra=about)
            elif event.HasField("log"):
                logger.info("%s", event.log.text, extra=about)

    def _queued(self) -> list[Record]:
        return [r for r in self._store.newest_first() if r.job.state == QUEUED]

    def _active(self) -> list[Record]:
        return [r for r in self._store.newest_first() if r.job.state in ACTIVE]

    def _ensure_followed(self, record: Record) -> None:
        job_id = record.job.id
        follower = self._followers.get(job_id)
        if record.job.state in ACTIVE and (follower is None or follower.done()):
            self._followers[job_id] = asyncio.create_task(self._follow(job_id))
        elif follower is not None and follower.done():
            del self._followers[job_id]

    # --- the queue

    async def _start_what_fits(self) -> None:
        queued = self._queued()
        if not queued:
            return
        active = [self.folder(record.job.id) for record in self._active()]
        total, free_now = await self._cluster.capacity(self._jobs, active)
        free = self._free(total, free_now)
        started, reasons = admit(
            [waiting_job(r) for r in queued], total, free, time.time(), self._quotas()
        )
        self._explain(reasons)
        for job_id in started:
            record = self._store.get(job_id)
            if record is not None and record.job.state == QUEUED:  # still, after the await
                self._start(record)

    def _quotas(self) -> Quotas:
        used = Counter[str]()
        for record in self._active():
            used[record.job.owner] += workers_of(record.job.spec)
        return Quotas(self._users.limits(), used)

    def _free(self, total: Capacity, free_now: Capacity) -> Capacity:
        """Return what our jobs and others leave free; Ray reports ours with a delay."""
        free = total
        for record in self._active():
            free = free.without(waiting_job(record))
        settled = time.monotonic() - self._ended_at > _SETTLE_S
        if settled and all(r.job.state == RUNNING for r in self._active()):
            free = Capacity(min(free.cpus, free_now.cpus), min(free.gpus, free_now.gpus))
        return free

    def _start(self, record: Record) -> None:
        changed = record.copy()
        changed.job.starts += 1
        gpus = record.job.spec.resources.coordinator_gpus
        changed.actor = self._cluster.name_for(record.job.id, changed.job.starts, gpus)
        changed.followed, changed.pace = 0, Pace()
        if not changed.job.HasField("started"):
            changed.job.started.GetCurrentTime()
        self._save(changed, [changed.go_to(STARTING, "its workers are being started")])
        self._notifier.notify(record.job.id)
        self._ensure_followed(changed)

    def _explain(self, reasons: dict[str, str]) -> None:
        """Store why each queued job waits, where that has changed."""
        for job_id, reason in reasons.items():
            record = self._store.get(job_id)
            if record is not None and record.job.state == QUEUED and record.job.reason != reason:
                changed = record.copy()
                changed.job.reason = reason
                self._save(changed, [log(SEVERITY_INFO, f"waits: {reason}")])
                self._notifier.notify(job_id)

    def _prepare(self) -> None:
        """Make an actor ready for the next job while no job runs, since that takes a core."""
        if not self._active() and (self._preparing is None or self._preparing.done()):
            self._preparing = asyncio.create_task(self._cluster.make_spare())

    async def _sweep(self) -> None:
        """End actors without an active job: an earlier service was killed before it ended them."""
        ours = {record.actor for record in self._active()}
        for actor in await self._cluster.names():
            if actor not in ours:
                logger.warning("ending %s: it belongs to no active job", actor)
                await self._cluster.kill(actor)

    # --- a job with an actor

    async def _follow(self, job_id: str) -> None:
        """Follow the current start of a job until the job is no longer active."""
        record = self._if_active(job_id)
        actor = record.actor if record is not None else ""
        began = False
        while record is not None and record.actor == actor:
            asked = time.monotonic()
            try:
                # stored events of this start show that it has begun
                if record.followed == 0 and not began:
                    code = await asyncio.to_thread(self._code.put, record)
                    await self._cluster.start(actor, self.folder(job_id), *code)
                    began = True
                await self._read_reports(record)
            except ActorLost as error:
                self._lose(job_id, actor, str(error))
            except ClusterDown:
                await self._cluster.until_up()
            except ServiceError as error:
                if error.kind in (DAMAGED, NO_CODE):
                    self._fail(job_id, actor, str(error))
                # if it is not written, the disk is full; the same reports are read again
                logger.error("%s: %s", job_id, error)
                await asyncio.sleep(_QUEUE_S)
            except ChildError as error:
                logger.error("%s: %s: %s", job_id, error.kind, error)
                await asyncio.sleep(_QUEUE_S)
            await asyncio.sleep(max(0.0, _POLL_S - (time.monotonic() - asked)))
            record = self._if_active(job_id)
        if actor:
            await self._end_actor(actor)
        if self._store.get(job_id) is None:  # deleted: what its start has written since
            await asyncio.to_thread(shutil.rmtree, self.folder(job_id), True)
        self._wake.set()

    async def _read_reports(self, record: Record) -> None:
        """Stop a job that is to stop, and store what its actor has reported since."""
        patience_s = record.job.spec.resources.timeout_s
        if record.wanted != "run" or record.scaling or self._stopping:
            await self._cluster.stop(record.actor, patience_s)
        reports, progress = await self._cluster.follow(
            record.actor, record.followed, _FOLLOW_S, patience_s
        )
        self._store_reports(record.job.id, record.actor, reports, progress)

    def _if_active(self, job_id: str, actor: str | None = None) -> Record | None:
        """Return a job's record while the job is active and, where one is given, has the actor."""
        record = self._store.get(job_id)
        if record is None or record.job.state not in ACTIVE:
            return None
        return record if actor is None or record.actor == actor else None

    async def _end_actor(self, actor: str) -> None:
        self._ended_at = time.monotonic()
        try:
            await self._cluster.kill(actor)
        except (ClusterDown, ActorLost, ChildError) as error:
            logger.warning("%s was not ended: %s", actor, error)  # the next sweep ends it

    def _store_reports(
        self, job_id: str, actor: str, reports: list[RunEvent], progress: Progress | None
    ) -> None:
        """Store an actor's reports in one transaction, and notify the watchers."""
        record = self._if_active(job_id, actor)
        if record is None:
            return
        changed = record.copy()
        if progress is not None:
            changed.job.progress.CopyFrom(progress_of(progress))
            changed.pace = changed.pace.after(progress.step, time.monotonic())
        if not reports:
            self._store.note_progress(changed)
        else:
            changed.followed += len(reports)
            self._save(changed, [e for report in reports for e in apply_report(changed, report)])
        self._notifier.notify(job_id)

    def _fail(self, job_id: str, actor: str, why: str) -> None:
        record = self._if_active(job_id, actor)
        if record is not None:
            changed = record.copy()
            self._save(changed, fail(changed, why))
            self.changed(job_id)

    def _lose(self, job_id: str, actor: str, why: str) -> None:
        record = self._if_active(job_id, actor)
        if record is None:
            return
        logger.warning("%s was lost: %s", actor, why)
        changed = record.copy()
        self._save(changed, lose_actor(changed, why))
        self.changed(job_id)
