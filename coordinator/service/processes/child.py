"""A child process of the service: answers requests, and ends with the service."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from coordinator.service.processes.frames import Frame, Header, pack, read_async
from workers.life.sign import computes

_END_S = 5.0


class ChildGone(Exception):
    """The child has died, does not answer, or was never started."""


class ChildError(Exception):
    """The child answered with an error; `kind` is the name of its class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Child:
    """Runs `main()` of a module in a separate process."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str] | None = None):
        """folder: an empty working directory; the child's log is written next to it."""
        self._module, self._folder = module, folder
        self._environment = {**os.environ, **(environment or {})}
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder.with_name(f"{self._module.rpartition('.')[2]}.log")
        # -c instead of -m: Ray puts a script's folder first on its workers' path
        program = f"from {self._module} import main; main()"
        with log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # Ctrl-C must reach the service only
            )
        self._reader = asyncio.create_task(self._read(self._process))

    async def ask(
        self,
        header: Header,
        body: bytes = b"",
        seconds: float = 60.0,
        while_it_computes: bool = False,
    ) -> Frame:
        """Send a request and return its answer.

        while_it_computes: keep waiting after `seconds` as long as the child uses the CPU.

        Raises ChildError for an error in the child, and ChildGone when the child dies or does not
        answer in time.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise ChildGone(f"{self._module} is not running")
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            process.stdin.write(pack({**header, "id": number}, body))
            await process.stdin.drain()
            while not (await asyncio.wait({future}, timeout=seconds))[0]:
                busy = while_it_computes and await asyncio.to_thread(computes, process.pid)
                if not busy:
                    raise ChildGone(f"{self._module} did not answer within {seconds:.0f} s")
            answer, result = future.result()
        except OSError as error:
            raise ChildGone(f"{self._module} has ended") from error
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise ChildError(answer["error"], answer["message"])
        return answer, result

    async def gone(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """End a process that may be broken; every pending `ask` raises ChildGone."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the process and all processes of its session."""
        process = self._process
        if process is None:
            return
        self.kill()
        await asyncio.wait_for(process.wait(), _END_S)
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        try:
            while stream is not None and (answer := await read_async(stream)) is not None:
                future = self._waiting.get(answer[0]["id"])
                if future is not None and not future.done():
                    future.set_result(answer)
        finally:
            await process.wait()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChildGone(f"{self._module} died"))
