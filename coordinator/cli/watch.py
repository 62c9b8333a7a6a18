"""`errorcast watch` and `errorcast logs`."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.connection import Form, JobId, print_json, with_client

if TYPE_CHECKING:
    from coordinator.client import Client


@with_client
def watch(
    client: "Client",
    form: Form,
    job_id: JobId = "latest",
    after: Annotated[int, typer.Option(help="Number of the last event already seen.", min=0)] = 0,
) -> None:
    """Show a job's events and progress until it ends; exit with code 1 if it fails."""
    show(client, job_id, after, form)


@with_client
def logs(
    client: "Client",
    form: Form,
    job_id: JobId = "latest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new lines.")] = False,
) -> None:
    """Print a job's log with its events and stack traces, also after the job has ended."""
    from errorcast.v1.event_pb2 import Event

    from coordinator.cli.job_text import event_line

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
    """Show a job until it ends. Raises typer.Exit with code 1 if it fails."""
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
