"""The service's side of the child process that is the Ray driver: sends requests, restarts it."""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from errorcast.v1.job_pb2 import JobSpec

from coordinator.service.processes.capacity import Capacity
from coordinator.service.processes.child import Child, ChildError, ChildGone
from coordinator.service.processes.frames import Frame, Header
from coordinator.service.processes.own_ray import token_of
from coordinator.service.settings import ServiceSettings
from coordinator.training.events import Event, Progress, from_json

_JOIN_S = 90.0
_RETRY_S = (1.0, 2.0, 5.0, 10.0)
_TIMELINE_S = 20.0
_ANSWER_S = 60.0
_START_S = 120.0  # a new process imports torch, which is slow on a busy machine
_SPARE = "spare."

logger = logging.getLogger(__name__)


class ActorLost(Exception):
    """A job's training actor has died or hangs."""


class ClusterDown(Exception):
    """The cluster does not answer now."""


class ClusterLink:
    """Sends the supervisor's requests to the Ray cluster."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        environment = {"RAY_USAGE_STATS_ENABLED": "0"}
        if not settings.ray_address:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_of(settings.state)}
        folder = settings.state / "empty"
        self._child = Child("coordinator.service.processes.cluster_process", folder, environment)
        self._joined = asyncio.Event()
        self._spare = self._making = ""  # names of the ready actor, and of the newest one
        self.why_down = "the Ray cluster is being joined"

    @property
    def up(self) -> bool:
        """Return whether the cluster answers."""
        return self._joined.is_set()

    async def keep_joined(self) -> None:
        """Join, and rejoin whenever the driver or the cluster dies; never returns."""
        failures = 0
        while True:
            try:
                await self._child.start()
                await self._child.ask(
                    {
                        "do": "join",
                        "state": str(self._settings.state),
                        "address": self._settings.ray_address,
                        "cpus": self._settings.cpus,
                    },
                    seconds=_JOIN_S,
                )
                failures = 0
                self._joined.set()
                logger.info("joined the Ray cluster")
                await self._child.gone()
                self._spare = self._making = ""
                self.why_down = "the Ray cluster was lost and is being joined again"
            except (ChildGone, ChildError) as error:
                self.why_down = f"the Ray cluster cannot be joined: {error}"
            self._joined.clear()
            logger.warning("%s", self.why_down)
            await self._child.stop()
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1

    async def until_up(self) -> None:
        """Wait until the cluster answers."""
        await self._joined.wait()

    async def make_spare(self) -> None:
        """Make a training actor ready for the next job, since its imports take seconds.

        Call it while no job is active: it takes over the spare actor of an earlier service.
        """
        if not self.up or self._spare:
            return
        try:
            names = (await self._ask({"do": "names"}))[0]["names"]
            left = [name for name in names if name.startswith(_SPARE)]
            self._making = left[0] if left else _SPARE + secrets.token_hex(6)
            if (await self._ask({"do": "spare", "name": self._making}))[0]["free"]:
                self._spare = self._making
            else:  # it had a job, which has ended
                await self.kill(self._making)
        except (ClusterDown, ActorLost, ChildError) as error:
            logger.warning("no training actor is ready for the next job: %s", error)

    def name_for(self, job_id: str, start: int, gpus: float) -> str:
        """Return the name of the actor for a start of a job: the spare actor's, or a new name.

        gpus: that the actor needs; the spare actor has none.
        """
        new = f"{job_id}.{start}"
        if gpus or not self._spare:
            return new
        name, self._spare = self._spare, ""
        return name

    async def capacity(self, jobs: Path, active: Iterable[Path]) -> tuple[Capacity, Capacity]:
        """Return the resources of the whole cluster, and those that are free.

        jobs: folder of the run folders. active: those of jobs that run or start; what killed actors
        of others have left is released.
        """
        folders = [str(folder) for folder in active]
        answer = (await self._ask({"do": "capacity", "jobs": str(jobs), "active": folders}))[0]
        return Capacity(**answer["total"]), Capacity(**answer["free"])

    async def names(self) -> list[str]:
        """Return the names of all training actors that have or had a job."""
        names: list[str] = (await self._ask({"do": "names"}))[0]["names"]
        known = {self._spare, self._making} - {""}
        return [n for n in names if n not in known and (known or not n.startswith(_SPARE))]

    async def start(
        self, name: str, run_dir: Path, spec: JobSpec, folders: Sequence[str] = ()
    ) -> None:
        """Let the actor of this name run a job, once; start the actor if there is none.

        folders: of modules that were installed for the job's code.

        Raises ActorLost, also when the actor hangs.
        """
        request: Header = {
            "do": "start",
            "name": name,
            "run_dir": str(run_dir),
            "patience_s": _START_S,
        }
        request["folders"] = list(folders)
        await self._ask(request, spec.SerializeToString(), patience_s=_START_S)

    async def follow(
        self, name: str, after: int, wait_s: float, patience_s: float
    ) -> tuple[list[Event], Progress | None]:
        """Return an actor's reports after a number, and its progress.

        wait_s: how long the actor waits for a new report before it answers.
        Raises ActorLost, also when the actor does not answer within `patience_s`.
        """
        request = {"do": "follow", "name": name, "after": after, "wait_s": wait_s}
        header, body = await self._ask({**request, "patience_s": patience_s}, patience_s=patience_s)
        progress = header["progress"]
        reports = [from_json(report) for report in json.loads(body)]
        return reports, None if progress is None else from_json(progress)

    async def stop(self, name: str, patience_s: float) -> None:
        """Ask a job to save and end. Raises ActorLost, also when the actor hangs."""
        request = {"do": "stop", "name": name, "patience_s": patience_s}
        await self._ask(request, patience_s=patience_s)

    async def kill(self, name: str) -> None:
        """End a training actor and its workers."""
        await self._ask({"do": "kill", "name": name})

    async def timeline(self, name: str, steps: int) -> str:
        """Return a Chrome trace of a job's next steps. Raises ActorLost, ChildError."""
        request = {"do": "timeline", "name": name, "steps": steps, "wait_s": _TIMELINE_S}
        return (await self._ask(request))[1].decode()

    async def end(self) -> None:
        """Leave the cluster, and end it if it is the service's own."""
        if self.up and not self._settings.ray_address:
            with contextlib.suppress(ClusterDown):  # raised as soon as it has ended
                await self._ask({"do": "end_own", "state": str(self._settings.state)})
        await self._child.stop()

    async def _ask(self, request: Header, body: bytes = b"", patience_s: float = 0.0) -> Frame:
        if not self.up:
            raise ClusterDown(self.why_down)
        try:
            return await self._child.ask(request, body, seconds=patience_s + _ANSWER_S)
        except ChildGone as error:
            raise ClusterDown(str(error)) from error
        except ChildError as error:
            # Ray raises ValueError for an unknown name
            if error.kind in ("ValueError", "ActorDiedError", "RayActorError"):
                raise ActorLost(str(error)) from error
            if error.kind == "ActorUnavailableError":
                raise ClusterDown(str(error)) from error
            raise
