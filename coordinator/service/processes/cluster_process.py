"""The child process that is the Ray driver: it starts, follows and stops training actors.

Actors are detached and have names made of job and start, so they outlive this process and service.
"""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import ray
from errorcast.v1.job_pb2 import JobSpec
from ray.util import list_named_actors

from coordinator.runs.run_folder import RunFolder
from coordinator.runs.trackers.choice import tracker_environment
from coordinator.service.processes import own_ray
from coordinator.service.processes.frames import (
    Frame,
    Header,
    as_child,
    failure,
    pack,
    read_async,
)
from coordinator.training.actor import training_actor
from coordinator.training.events import to_json
from workers.life.sign import computes
from workers.placement import release_left

_NAMESPACE = "errorcast"
_QUIET = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}


class Cluster:
    """Answers the service's requests; each public method answers one kind."""

    def __init__(self) -> None:
        self._processes: dict[Any, int] = {}  # of actors that have answered

    def join(self, state: str, address: str, cpus: int) -> Frame:
        """Join the cluster at an address; without one, find or start the service's own."""
        if not address:
            own = own_ray.find_or_start(Path(state), cpus)
            own_ray.end_with(own)
            address = own.address
        ray.init(address=address, namespace=_NAMESPACE, **_QUIET)
        return {}, b""

    def spare(self, name: str) -> Frame:
        """Start or find an actor; once it has imported all it needs, answer whether it is free."""
        return {"free": ray.get(_training_actor(name).warm.remote())}, b""

    def capacity(self, jobs: str, active: list[str]) -> Frame:
        """Return the CPUs and GPUs of the whole cluster, and those that are free.

        jobs: folder of the run folders. active: those of jobs that run or start; what others have
        left is released first.
        """
        release_left(lambda owner: Path(jobs) in Path(owner).parents and owner not in active)
        total, free = ray.cluster_resources(), ray.available_resources()
        kinds = {"cpus": "CPU", "gpus": "GPU"}
        return {
            "total": {ours: total.get(theirs, 0.0) for ours, theirs in kinds.items()},
            "free": {ours: free.get(theirs, 0.0) for ours, theirs in kinds.items()},
        }, b""

    def names(self) -> Frame:
        """Return the names of all training actors."""
        found = list_named_actors(all_namespaces=True)
        return {"names": [one["name"] for one in found if one["namespace"] == _NAMESPACE]}, b""

    async def start(
        self, name: str, run_dir: str, patience_s: float, folders: list[str], spec: bytes
    ) -> Frame:
        """Let the actor of this name run a job, once; start the actor if there is none."""
        job, folder = JobSpec.FromString(spec), Path(run_dir)
        gpus = job.resources.coordinator_gpus
        actor = await asyncio.to_thread(_training_actor, name, gpus)
        environment = tracker_environment(job.trackers, RunFolder(folder))
        given = {"environment": environment, "folders": folders}
        used = {name: value for name, value in given.items() if value}  # older actors take none
        await self._in_time(actor, actor.begin.remote(spec, folder, **used), patience_s)
        return {}, b""

    def kill(self, name: str) -> Frame:
        """End an actor and its workers; do nothing if there is none of this name."""
        with contextlib.suppress(ValueError):
            ray.kill(self._actor(name))
        return {}, b""

    async def follow(self, name: str, after: int, wait_s: float, patience_s: float) -> Frame:
        """Return the actor's reports after a number, and its progress."""
        actor = await asyncio.to_thread(self._actor, name)
        call = actor.follow.remote(after, wait_s)
        reports, progress = await self._in_time(actor, call, wait_s + patience_s)
        newest = None if progress is None else to_json(progress)
        return {"progress": newest}, json.dumps([to_json(report) for report in reports]).encode()

    async def stop(self, name: str, patience_s: float) -> Frame:
        """Ask a job to save its state and end."""
        actor = await asyncio.to_thread(self._actor, name)
        await self._in_time(actor, actor.stop.remote(), patience_s)
        return {}, b""

    async def _in_time(self, actor: Any, call: Any, seconds: float) -> Any:
        """Return an actor's answer. Kill an actor that hangs, and raise ValueError.

        One that computes does not hang: native code can hold Python's lock for long. All training
        actors are on this node.
        """
        answer = asyncio.ensure_future(call)
        while not (await asyncio.wait({answer}, timeout=seconds))[0]:
            process = self._processes.get(actor._actor_id)
            if process is None or not await asyncio.to_thread(computes, process):
                ray.kill(actor)
                raise ValueError(f"it hangs: no answer within {seconds:g} s")
        found = answer.result()
        if actor._actor_id not in self._processes:
            with contextlib.suppress(AttributeError):  # an earlier version's actor has no process()
                number = await asyncio.wait_for(actor.process.remote(), seconds)
                self._processes[actor._actor_id] = number
        return found

    async def timeline(self, name: str, steps: int, wait_s: float) -> Frame:
        """Return a Chrome trace of the job's next steps."""
        from dfa_speedup.results.timeline import chrome_trace  # noqa: PLC0415

        actor = await asyncio.to_thread(self._actor, name)
        rows = await actor.timeline.remote(steps, wait_s)
        return {}, json.dumps(chrome_trace({name: rows})).encode()

    def end_own(self, state: str) -> Frame:
        """End the service's own Ray and all processes on it."""
        own = own_ray.find(Path(state))
        if own is not None:
            own_ray.stop(own)  # also ends this process
        return {}, b""

    def _actor(self, name: str) -> Any:
        return ray.get_actor(name, namespace=_NAMESPACE)


def _training_actor(name: str, gpus: float = 0.0) -> Any:
    options = {"name": name, "namespace": _NAMESPACE, "lifetime": "detached"}
    return training_actor(gpus, get_if_exists=True, **options)


async def _serve() -> None:
    requests, answers = as_child()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), requests)
    cluster, tasks = Cluster(), set[asyncio.Task[None]]()

    async def answer(header: Header, body: bytes) -> None:
        number, operation = header.pop("id"), header.pop("do")
        method: Any = getattr(cluster, operation)
        arguments = {**header, "spec": body} if operation == "start" else header
        try:
            if asyncio.iscoroutinefunction(method):
                found, result = await method(**arguments)
            else:
                found, result = await asyncio.to_thread(method, **arguments)
        except Exception as error:  # noqa: BLE001
            found, result = failure(getattr(error, "cause", None) or error)
        answers.write(pack({**found, "id": number}, result))
        answers.flush()

    while (frame := await read_async(reader)) is not None:
        task = asyncio.create_task(answer(*frame))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main() -> None:
    """Answer requests until the service ends."""
    asyncio.run(_serve())
