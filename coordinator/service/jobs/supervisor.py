"""The life of a job: from the queue to its training actor, and to its end.

Each change is in the store before anything else learns of it, so that a service killed at any
moment finds again what it was about to do: a job's actor is named by job and start, is started
only once, and goes on without us.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errorcast.v1.event_pb2 import Event, Scaling
from errorcast.v1.job_pb2 import METHOD_DFA, JobSpec

from coordinator.service.errors import ServiceError, plain
from coordinator.service.jobs import events as job_events
from coordinator.service.jobs.admission import admit
from coordinator.service.jobs.notifier import JobNotifier
from coordinator.service.jobs.states import (
    ACTIVE,
    CANCELLED,
    FAILED,
    FINAL,
    PAUSED,
    QUEUED,
    RUNNING,
    STARTING,
    SUCCEEDED,
    name,
)
from coordinator.service.jobs.store import Record, Store
from coordinator.service.processes.capacity import Capacity, Waiting
from coordinator.service.processes.child import ChildError
from coordinator.service.processes.cluster import ActorLost, ClusterDown, ClusterLink

_FOLLOW_S = 0.5
_LEAST_S = 0.2  # between two looks at a job
_QUEUE_S = 1.0
_SETTLE_S = 3.0  # until Ray reports what an ended job has given back
_SWEEP_S = 60.0
_LOSSES = 3

logger = logging.getLogger(__name__)


class Supervisor:
    """Starts, follows and ends the jobs of a store on a cluster."""

    def __init__(
        self, store: Store, cluster: ClusterLink, notifier: JobNotifier, jobs: Path
    ) -> None:
        """jobs: the folder of the jobs' run folders."""
        self._store, self._cluster, self._notifier, self._jobs = store, cluster, notifier, jobs
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended_at = 0.0

    def folder(self, job_id: str) -> Path:
        """Return a job's run folder."""
        return self._jobs / job_id

    def changed(self, job_id: str) -> None:
        """Look at a job whose record was changed, and tell its watchers."""
        self._notifier.ring(job_id)
        self._wake.set()

    async def run(self) -> None:
        """Take up the active jobs again, then start queued ones as they fit; for ever."""
        swept = 0.0
        while True:
            self._wake.clear()
            for record in self._store.newest_first():
                self._take_up(record)
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
                logger.warning("the queue waits: %s", error)
            try:
                await asyncio.wait_for(self._wake.wait(), _QUEUE_S)
            except TimeoutError:
                continue

    async def drain(self, seconds: float) -> None:
        """Start nothing more; save and stop all jobs, to go on when the service is there again."""
        self._stopping = True
        deadline = time.monotonic() + seconds
        while self._active() and time.monotonic() < deadline and self._cluster.up:
            await asyncio.sleep(_LEAST_S)  # the followers ask the jobs to stop

    async def leave(self) -> None:
        """Stop following; jobs go on by themselves."""
        self._stopping = True
        tasks = [*self._followers.values(), *([self._preparing] if self._preparing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _save(self, record: Record, events: Sequence[Event] = ()) -> None:
        """Bring a change to the store, then tell the service's own log of it."""
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

    def _take_up(self, record: Record) -> None:
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
        total, free_now = await self._cluster.capacity()
        free = self._free(total, free_now)
        started, reasons = admit([_waiting(r) for r in queued], total, free, time.time())
        self._explain(reasons)
        for job_id in started:
            record = self._store.get(job_id)
            if record is not None and record.job.state == QUEUED:  # nothing came between
                self._start(record)

    def _free(self, total: Capacity, free_now: Capacity) -> Capacity:
        """Return what our jobs and those of others leave; Ray reports ours with a delay."""
        free = total
        for record in self._active():
            free = free.without(_waiting(record))
        settled = time.monotonic() - self._ended_at > _SETTLE_S
        if settled and all(r.job.state == RUNNING for r in self._active()):
            free = Capacity(min(free.cpus, free_now.cpus), min(free.gpus, free_now.gpus))
        return free

    def _start(self, record: Record) -> None:
        changed = record.copy()
        changed.job.starts += 1
        gpus = record.job.spec.resources.coordinator_gpus
        changed.actor = self._cluster.name_for(record.job.id, changed.job.starts, gpus)
        changed.followed = 0
        if not changed.job.HasField("started"):
            changed.job.started.GetCurrentTime()
        self._save(changed, [changed.go_to(STARTING, "its workers are being started")])
        self._notifier.ring(record.job.id)
        self._take_up(changed)

    def _explain(self, reasons: dict[str, str]) -> None:
        for job_id, reason in reasons.items():
            record = self._store.get(job_id)
            if record is not None and record.job.state == QUEUED and record.job.reason != reason:
                changed = record.copy()
                changed.job.reason = reason
                told = job_events.log(job_events.SEVERITY_INFO, f"waits: {reason}")
                self._save(changed, [told])
                self._notifier.ring(job_id)

    def _prepare(self) -> None:
        """Have an actor ready for the next job; made while none runs, for it takes a core."""
        if not self._active() and (self._preparing is None or self._preparing.done()):
            self._preparing = asyncio.create_task(self._cluster.make_spare())

    async def _sweep(self) -> None:
        """End actors that no active job has any more: a service was killed before it could."""
        ours = {record.actor for record in self._active()}
        for actor in await self._cluster.names():
            if actor not in ours:
                logger.warning("ends %s, which belongs to no active job", actor)
                await self._cluster.kill(actor)

    # --- a job with an actor

    async def _follow(self, job_id: str) -> None:
        """Follow the present start of a job until it is not active any more."""
        record = self._present(job_id)
        actor = record.actor if record is not None else ""
        began = False
        while record is not None and record.actor == actor:
            asked, patience_s = time.monotonic(), record.job.spec.resources.timeout_s
            try:
                if record.followed == 0 and not began:  # else it is known to have begun
                    spec = record.job.spec.SerializeToString()
                    await self._cluster.start(actor, self.folder(job_id), spec)
                    began = True
                if record.wanted != "run" or record.wanted_blocks or self._stopping:
                    await self._cluster.stop(actor, patience_s)
                told, progress = await self._cluster.follow(
                    actor, record.followed, _FOLLOW_S, patience_s
                )
                self._take(job_id, actor, told, progress)
            except ActorLost as error:
                self._lost(job_id, actor, str(error))
            except ClusterDown:
                await self._cluster.until_up()
            except ServiceError as error:  # the disk is full; what was told is told again
                logger.error("%s: %s", job_id, error)
                await asyncio.sleep(_QUEUE_S)
            except ChildError as error:
                logger.error("%s: %s: %s", job_id, error.kind, error)
                await asyncio.sleep(_QUEUE_S)
            await asyncio.sleep(max(0.0, _LEAST_S - (time.monotonic() - asked)))
            record = self._present(job_id)
        if actor:
            await self._end_actor(actor)
        self._wake.set()

    def _present(self, job_id: str) -> Record | None:
        record = self._store.get(job_id)
        return record if record is not None and record.job.state in ACTIVE else None

    async def _end_actor(self, actor: str) -> None:
        self._ended_at = time.monotonic()
        try:
            await self._cluster.kill(actor)
        except (ClusterDown, ActorLost, ChildError) as error:
            logger.warning("%s was not ended: %s", actor, error)  # the sweep finds it

    def _take(
        self, job_id: str, actor: str, told: list[dict[str, Any]], progress: dict[str, Any]
    ) -> None:
        """Bring what an actor told into the store, all at once, and tell the watchers."""
        record = self._present(job_id)
        if record is None or record.actor != actor:
            return
        changed = record.copy()
        if progress:
            changed.job.progress.CopyFrom(job_events.progress_of(progress))
        if not told:
            self._store.note_progress(changed)
        else:
            changed.followed += len(told)
            events = [event for one in told for event in self._events(changed, one)]
            self._save(changed, events)
        self._notifier.ring(job_id)

    def _events(self, record: Record, told: dict[str, Any]) -> list[Event]:
        if told["event"] == "metrics" and told["step"] <= record.logged:
            return []  # done again, with the same bits, after a start that was lost
        events = list(job_events.events_of(told))
        match told["event"]:
            case "training" if record.job.state == STARTING:
                events.append(record.go_to(RUNNING, f"trains from step {told['step']}"))
            case "metrics":
                record.logged = told["step"]
            case "rolled_back":
                record.logged = told["step"]  # what comes behind it are other steps
            case "evaluation":
                scores = next(e.evaluation.scores for e in events if e.HasField("evaluation"))
                record.job.metrics.clear()
                record.job.metrics.update(scores)
            case "checkpoint":
                record.losses = 0
            case "failed":
                events.append(record.go_to(FAILED, plain(told["message"])))
            case "finished":
                events += _ended(record, told)
        return events

    def _lost(self, job_id: str, actor: str, why: str) -> None:
        record = self._present(job_id)
        if record is None or record.actor != actor:
            return
        logger.warning("%s was lost: %s", actor, why)
        changed = record.copy()
        changed.losses += 1
        if changed.losses > _LOSSES:
            reason = f"its training actor was lost {changed.losses} times without a new checkpoint"
            events = [changed.go_to(FAILED, reason)]
        else:
            text = "its training actor was lost; goes on from its newest checkpoint"
            events = [job_events.log(job_events.SEVERITY_WARNING, f"{text} ({plain(why)})")]
            events.append(changed.go_to(QUEUED, text))
        self._save(changed, events)
        self.changed(job_id)


def _ended(record: Record, told: dict[str, Any]) -> list[Event]:
    """Return the events of a start that ended well, at its last step or where it was stopped."""
    step = told["steps"]
    if told["finished"]:
        return [record.go_to(SUCCEEDED, f"trained to step {step}")]
    if record.wanted == "cancel":
        return [record.go_to(CANCELLED, f"cancelled at step {step}")]
    if record.wanted == "pause":
        return [record.go_to(PAUSED, f"paused at step {step}")]
    events = rescaled(record)
    reason = f"scaled at step {step}" if events else f"the service stopped at step {step}"
    return [*events, record.go_to(QUEUED, reason)]


def rescaled(record: Record) -> list[Event]:
    """Give a job that has no workers now the numbers of blocks and replicas that are wanted."""
    if not record.wanted_blocks:
        return []
    spec = record.job.spec
    scaling = Scaling(
        from_blocks=spec.blocks,
        to_blocks=record.wanted_blocks,
        from_replicas=replicas_of(spec),
        to_replicas=record.wanted_replicas,
    )
    spec.blocks, spec.replicas = scaling.to_blocks, scaling.to_replicas
    record.wanted_blocks = record.wanted_replicas = 0
    return [Event(scaling=scaling)]


def replicas_of(spec: JobSpec) -> int:
    """Return the copies of every block; a job that an older version took has no such field."""
    replicas: int = spec.replicas
    return max(1, replicas)


def stop_now(record: Record) -> list[Event]:
    """Cancel a job at once, whatever it does; return the events. Its actor is ended afterwards."""
    if record.job.state in FINAL:
        return []
    step = record.job.progress.step
    record.wanted = "cancel"
    return [record.go_to(CANCELLED, f"cancelled at step {step}")]


def _waiting(record: Record) -> Waiting:
    job, resources = record.job, record.job.spec.resources
    return Waiting(
        job_id=job.id,
        number=record.number,
        priority=job.priority,
        submitted=job.submitted.ToNanoseconds() / 1e9,
        workers=job.spec.blocks * replicas_of(job.spec) if job.spec.method == METHOD_DFA else 1,
        cpus=resources.cpus,
        gpus=resources.gpus,
        coordinator_gpus=resources.coordinator_gpus,
    )
