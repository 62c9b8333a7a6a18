"""The child process that is the Ray driver: it starts, follows and stops training actors.

Actors are detached and named by job and start, so that they outlive this process and its service.
"""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import ray
from errorcast.v1.job_pb2 import JobSpec
from ray.util import list_named_actors

from coordinator.service.processes import own_ray
from coordinator.service.processes.frames import SIZES, Header, as_child, pack
from coordinator.training.actor import training_actor

_NAMESPACE = "errorcast"
_QUIET = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}

Answer = tuple[Header, bytes]


class Cluster:
    """Answers the service's requests; the methods are what can be asked."""

    def join(self, state: str, address: str, cpus: int) -> Answer:
        """Join the cluster at an address, or find or start our own where there is none."""
        if not address:
            own = own_ray.find_or_start(Path(state), cpus)
            own_ray.end_with(own)
            address = own.address
        ray.init(address=address, namespace=_NAMESPACE, **_QUIET)
        return {}, b""

    def spare(self, name: str) -> Answer:
        """Start an actor that has no job, or find it; return when it has imported all it needs."""
        return {"free": ray.get(_training_actor(name).warm.remote())}, b""

    def capacity(self) -> Answer:
        """Return CPUs and GPUs: of the whole cluster, and free."""
        total, free = ray.cluster_resources(), ray.available_resources()
        kinds = {"cpus": "CPU", "gpus": "GPU"}
        return {
            "total": {ours: total.get(theirs, 0.0) for ours, theirs in kinds.items()},
            "free": {ours: free.get(theirs, 0.0) for ours, theirs in kinds.items()},
        }, b""

    def names(self) -> Answer:
        """Return the names of all training actors."""
        found = list_named_actors(all_namespaces=True)
        return {"names": [one["name"] for one in found if one["namespace"] == _NAMESPACE]}, b""

    async def start(self, name: str, run_dir: str, patience_s: float, spec: bytes) -> Answer:
        """Let the actor of this name run a job, once; start it if it is not there."""
        gpus = JobSpec.FromString(spec).resources.coordinator_gpus
        actor = await asyncio.to_thread(_training_actor, name, gpus)
        await self._in_time(actor, actor.begin.remote(spec, Path(run_dir)), patience_s)
        return {}, b""

    def kill(self, name: str) -> Answer:
        """End an actor, its workers with it; also one that is gone."""
        with contextlib.suppress(ValueError):
            ray.kill(self._actor(name))
        return {}, b""

    async def follow(self, name: str, after: int, wait_s: float, patience_s: float) -> Answer:
        """Return the actor's events behind a number, and its progress."""
        actor = await asyncio.to_thread(self._actor, name)
        call = actor.follow.remote(after, wait_s)
        events, progress = await self._in_time(actor, call, wait_s + patience_s)
        return {"progress": progress}, json.dumps(events).encode()

    async def stop(self, name: str, patience_s: float) -> Answer:
        """Ask a job to save its state and end."""
        actor = await asyncio.to_thread(self._actor, name)
        await self._in_time(actor, actor.stop.remote(), patience_s)
        return {}, b""

    async def _in_time(self, actor: Any, call: Any, seconds: float) -> Any:
        """Return what an actor answers; one that hangs is killed, and is then lost."""
        try:
            return await asyncio.wait_for(call, seconds)
        except TimeoutError as error:
            ray.kill(actor)
            raise ValueError(f"it hangs: no answer within {seconds:g} s") from error

    async def timeline(self, name: str, steps: int, wait_s: float) -> Answer:
        """Return a Chrome trace of the job's next steps."""
        from dfa_speedup.results.timeline import chrome_trace  # noqa: PLC0415

        actor = await asyncio.to_thread(self._actor, name)
        rows = await actor.timeline.remote(steps, wait_s)
        return {}, json.dumps(chrome_trace({name: rows})).encode()

    def end_own(self, state: str) -> Answer:
        """End our own Ray with all that runs on it."""
        own = own_ray.find(Path(state))
        if own is not None:
            own_ray.stop(own)  # and this process with it
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
            cause = getattr(error, "cause", None) or error
            found, result = {"error": type(cause).__name__, "message": str(cause)}, b""
        answers.write(pack({**found, "id": number}, result))
        answers.flush()

    while True:
        try:
            sizes = SIZES.unpack(await reader.readexactly(SIZES.size))
            header = json.loads(await reader.readexactly(sizes[0]))
            body = await reader.readexactly(sizes[1])
        except asyncio.IncompleteReadError:
            return
        task = asyncio.create_task(answer(header, body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def main() -> None:
    """Answer until the service is gone."""
    asyncio.run(_serve())
