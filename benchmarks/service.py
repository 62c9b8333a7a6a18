"""What load a service can take, and what the load costs a training job.

python -m benchmarks.service [--seconds 60]

Starts a service with its own Ray on this machine and measures three things: GetJob's latency
without other calls; the same latency and all errors under load (watchers of a running job, unary
calls at a fixed rate, memory before and after); and a job's median step with and without 20 calls
per second.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from errorcast.v1 import service_pb2 as pb
from errorcast.v1.event_pb2 import Event
from errorcast.v1.service_pb2_grpc import TrainingServiceStub
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import add_rounds, quartiles_of
from coordinator.client import Client

_JOB = {"epochs": 100_000, "log_every": 20, "blocks": 2}


@contextmanager
def service(state: Path) -> Iterator[tuple[str, int]]:
    """Run a service; yield its address and process id."""
    program = "from coordinator.cli.main import main; main()"
    words = ["serve", "--state", str(state), "--listen", "127.0.0.1:0", "--cpus", "2"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        line = (process.stdout.readline() if process.stdout else "").split()
        yield line[2].rstrip(","), process.pid
    finally:
        process.terminate()
        process.wait(90)


def running_job(client: Client, task: str) -> str:
    """Submit a job and wait until it trains."""
    job = client.submit(task=task, **_JOB)  # type: ignore[arg-type]
    for news in client.watch(job.id):
        if isinstance(news, Event) and news.HasField("metrics"):
            break
    return job.id


def megabytes(process: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def calls(address: str, job: str, rate: float, seconds: float) -> tuple[list[float], int]:
    """Call GetJob at a rate; return the latencies in seconds, and how many calls failed."""
    latencies: list[float] = []
    failed = 0

    async def one(stub: TrainingServiceStub) -> None:
        nonlocal failed
        start = time.perf_counter()
        try:
            await stub.GetJob(pb.GetJobRequest(job_id=job), timeout=30)  # type: ignore[misc]
            latencies.append(time.perf_counter() - start)
        except grpc.RpcError:
            failed += 1

    async with grpc.aio.insecure_channel(address) as channel:
        stub, tasks = TrainingServiceStub(channel), []
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(stub)))
        await asyncio.gather(*tasks)
    return latencies, failed


async def watch(address: str, job: str, until: float) -> tuple[int, int]:
    """Watch a job until a time; return the number of events, and of gaps in their numbers."""
    seen, gaps = 0, 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = TrainingServiceStub(channel)
        stream = stub.WatchJob(pb.WatchJobRequest(job_id=job))
        iterator = stream.__aiter__()
        while (left := until - time.perf_counter()) > 0:
            try:
                news = await asyncio.wait_for(iterator.__anext__(), left)
            except TimeoutError:
                break
            for event in news.events:
                gaps += event.number != seen + 1
                seen = event.number
        stream.cancel()
    return seen, gaps


async def load(
    address: str, job: str, watchers: int, rate: float, seconds: float
) -> tuple[list[float], int, list[tuple[int, int] | BaseException]]:
    """Watch and call at once."""
    until = time.perf_counter() + seconds
    following = [asyncio.create_task(watch(address, job, until)) for _ in range(watchers)]
    latencies, failed = await calls(address, job, rate, seconds)
    return latencies, failed, await asyncio.gather(*following, return_exceptions=True)


def step_ms(client: Client, job: str) -> float:
    """Return the job's median step of the newest 50, milliseconds."""
    return 1e3 * client.job(job).progress.step_seconds


def cost_of_calls(
    address: str, client: Client, job: str, rounds: int
) -> tuple[float, float, list[float]]:
    """Return the job's step without and with 20 calls a second, in turn: medians, and ratios."""
    quiet, called = [], []
    for _ in range(rounds):
        time.sleep(4)
        quiet.append(step_ms(client, job))
        asyncio.run(calls(address, job, 20, 4))
        called.append(step_ms(client, job))
    ratios = [b / a for a, b in zip(quiet, called, strict=True)]
    return statistics.median(quiet), statistics.median(called), quartiles_of(ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load")
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0, help="unary calls a second")
    add_rounds(parser, 10, "with and without 20 calls a second")
    parser.add_argument("--task", default="digits", help="what the job trains")
    given = parser.parse_args()
    table = Table(title=f"{given.watchers} watchers, {given.rate:g} calls/s, {given.seconds:g} s")
    for name in ("", "p50, ms", "p99, ms", "calls", "errors", "memory, MB"):
        table.add_column(name, justify="right")

    def row(what: str, latencies: list[float], errors: int, memory: float) -> None:
        cuts = statistics.quantiles(latencies, n=100)
        figures = (f"{1e3 * cuts[49]:.1f}", f"{1e3 * cuts[98]:.1f}", str(len(latencies)))
        table.add_row(what, *figures, str(errors), f"{memory:.0f}")

    with (
        tempfile.TemporaryDirectory() as folder,
        service(Path(folder) / "state") as (address, pid),
        Client(address) as client,
    ):
        waiting = client.submit(task=given.task, **_JOB, resources={"cpus": 64})  # type: ignore[arg-type]
        row("idle", *asyncio.run(calls(address, waiting.id, 20, 10)), megabytes(pid))
        job = running_job(client, given.task)
        quiet, called, ratios = cost_of_calls(address, client, job, given.rounds)
        arguments = (given.watchers, given.rate, given.seconds)
        latencies, failed, followed = asyncio.run(load(address, job, *arguments))
        broken = [one for one in followed if isinstance(one, BaseException)]
        whole = [one for one in followed if not isinstance(one, BaseException)]
        errors = failed + len(broken) + sum(gaps for _, gaps in whole)
        row("load, a job trains", latencies, errors, megabytes(pid))
        latencies, failed, followed = asyncio.run(load(address, job, *arguments))
        row("the same again", latencies, failed, megabytes(pid))
        client.cancel(job)
    console = Console()
    console.print(table)
    console.print(
        f"events seen by a watcher: {min(seen for seen, _ in whole)} or more, none missed"
    )
    console.print(
        f"step {quiet:.2f} ms without calls, {called:.2f} ms with 20 a second: ratio "
        f"{ratios[1]:.3f} (quartiles {ratios[0]:.3f}-{ratios[2]:.3f})"
    )


if __name__ == "__main__":
    main()
