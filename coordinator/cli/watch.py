"""`errorcast watch` and `errorcast logs`."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.connection import (
    Address,
    Form,
    Format,
    JobId,
    TlsCa,
    TokenFile,
    connect,
    print_json,
)

if TYPE_CHECKING:
    from coordinator.client import Client


def watch(
    job_id: JobId = "latest",
    after: Annotated[int, typer.Option(help="Number of the last event already seen.", min=0)] = 0,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Show a job's events and progress until it ends; exit code 1 when it failed."""
    with connect(address, token_file, tls_ca) as client:
        show(client, job_id, after, form)


def logs(
    job_id: JobId = "latest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for what comes.")] = False,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Print a job's log: its story and its stack traces, also of jobs that ended."""
    from errorcast.v1.event_pb2 import Event

    from coordinator.cli.job_text import event_line

    with connect(address, token_file, tls_ca) as client:
        job = client.job(job_id)
        if job.events == 0:
            return
        for news in client.watch(job.id):
            if isinstance(news, Event):
                if not news.HasField("metrics"):
                    print_json(news) if form is Form.JSON else print(event_line(news), flush=True)
                if not follow and news.number >= job.events:
                    return


def show(client: "Client", job_id: str, after: int, form: Form) -> None:
    """Show a job until it ends."""
    from errorcast.v1.event_pb2 import Event
    from errorcast.v1.job_pb2 import JOB_STATE_FAILED
    from rich.console import Console

    from coordinator.cli.job_text import event_line, job_line, progress_text

    job = client.job(job_id)
    console = Console()
    with console.status(f"{job.id}") as line:
        for news in client.watch(job.id, after):
            if form is Form.JSON:
                print_json(news)
            elif not isinstance(news, Event):
                line.update(f"{job.id}  {progress_text(news)}")
            elif not news.HasField("metrics"):
                console.print(event_line(news), markup=False, highlight=False)
    job = client.job(job.id)
    if form is Form.TEXT:
        print(job_line(job))
    if job.state == JOB_STATE_FAILED:
        raise typer.Exit(1)
