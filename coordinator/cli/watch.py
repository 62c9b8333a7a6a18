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
    after: Annotated[
        int,
        typer.Option(
            help="Number of the last event that you have seen; show those after it.", min=0
        ),
    ] = 0,
) -> None:
    """Show a job's events and progress until it ends.

    The exit code is 1 if the job fails. Long jobs show only some of their evaluations, as `train`
    does, and no checkpoints; `logs` prints all events.

    Examples:
        errorcast watch
        errorcast watch digits-0001
    """
    show(client, job_id, after, form)


@with_client
def logs(
    client: "Client",
    form: Form,
    job_id: JobId = "latest",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new lines until the job ends.")
    ] = False,
) -> None:
    """Print a job's log with its events and stack traces, also after the job has ended.

    Examples:
        errorcast logs
        errorcast logs digits-0001 --follow
    """
    from errorcast.v1.event_pb2 import Event

    from coordinator.cli.job_text import event_line
    from coordinator.cli.terminal import Terminal

    console = Terminal()
    job = client.job(job_id)
    if job.events == 0:
        return
    for news in client.watch(job.id):
        if isinstance(news, Event):
            if not news.HasField("metrics"):
                print_json(news) if form is Form.JSON else console.say(event_line(news))
            if not follow and news.number >= job.events:
                return


def show(client: "Client", job_id: str, after: int, form: Form) -> None:
    """Show a job until it ends. Raises typer.Exit with code 1 if it fails."""
    from errorcast.v1.event_pb2 import Event
    from errorcast.v1.job_pb2 import JOB_STATE_FAILED

    from coordinator.cli.epochs import EpochLines
    from coordinator.cli.job_text import event_line, job_line, progress_text, scored
    from coordinator.cli.terminal import Terminal

    job = client.job(job_id)
    console, epochs, newest = Terminal(), EpochLines(), ""
    with console.working(job.id) as line:
        for news in client.watch(job.id, after):
            if form is Form.JSON:
                print_json(news)
            elif not isinstance(news, Event):
                line.update(console.still(f"{job.id}  {progress_text(news)}{newest}"))
            elif news.HasField("evaluation") and not epochs.keeps(scored(news.evaluation)):
                newest = f"  {scored(news.evaluation).line}"
            elif not (news.HasField("metrics") or (news.HasField("checkpoint") and epochs.folds)):
                console.say(event_line(news))
                newest = "" if news.HasField("evaluation") else newest
    job = client.job(job.id)
    if form is Form.TEXT:
        for text in epochs.at_end():
            console.say(text)
        console.say(job_line(job))
    if job.state == JOB_STATE_FAILED:
        raise typer.Exit(1)
