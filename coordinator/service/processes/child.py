"""A child process of the service: asked by frames, watched, and ended with it."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from coordinator.service.processes.frames import SIZES, Header, pack

_END_S = 5.0


class ChildGone(Exception):
    """The child died, or was never there."""


class ChildError(Exception):
    """The child answered with an error: its class's name, and its text."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Child:
    """Runs `main()` of a module in a process of its own."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str] | None = None):
        """folder: an empty one to stand in; its log is written beside it."""
        self._module, self._folder = module, folder
        self._environment = {**os.environ, **(environment or {})}
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[tuple[Header, bytes]]] = {}
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
        # -c and not -m: Ray puts the folder of a script before its workers' path
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
                start_new_session=True,  # a Ctrl-C is the service's to answer
            )
        self._reader = asyncio.create_task(self._read(self._process))

    async def ask(
        self, header: Header, body: bytes = b"", seconds: float = 60.0
    ) -> tuple[Header, bytes]:
        """Send a request and return its answer.

        Raises ChildError for an error in the child, ChildGone when it dies or is silent so long.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise ChildGone(f"{self._module} does not run")
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            process.stdin.write(pack({**header, "id": number}, body))
            await process.stdin.drain()
            answer, result = await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            raise ChildGone(f"{self._module} did not answer within {seconds:.0f} s") from error
        except OSError as error:
            raise ChildGone(f"{self._module} is gone") from error
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
        """End a process that is not to be trusted any more; whoever waits for it is told."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the process and what it started in its session."""
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
            while stream is not None:
                header, body = SIZES.unpack(await stream.readexactly(SIZES.size))
                text, rest = await stream.readexactly(header), await stream.readexactly(body)
                answer: Header = json.loads(text)
                future = self._waiting.get(answer["id"])
                if future is not None and not future.done():
                    future.set_result((answer, rest))
        except asyncio.IncompleteReadError:
            pass
        finally:
            await process.wait()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChildGone(f"{self._module} died"))
