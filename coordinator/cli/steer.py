"""The verbs that change a job: pause, resume, scale, cancel, delete."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.connection import Form, JobId, print_done, print_job, with_client
from dfa_core.errors import JobError

if TYPE_CHECKING:
    from coordinator.client import Client


@with_client
def pause(client: "Client", form: Form, job_id: JobId) -> None:
    """Save and stop a job, and free its workers for other jobs.

    Example:
        errorcast pause latest
    """
    job = client.pause(job_id)
    print_job(job, form, f"resume it with: errorcast resume {job.id}")


@with_client
def resume(client: "Client", form: Form, job_id: JobId) -> None:
    """Put a paused job back into the queue.

    Example:
        errorcast resume latest
    """
    job = client.resume(job_id)
    print_job(job, form, f"watch it with: errorcast watch {job.id}")


@with_client
def scale(
    client: "Client",
    form: Form,
    job_id: JobId,
    blocks: Annotated[
        int,
        typer.Option(help="New number of blocks; 0 keeps the present one.", min=0),
    ] = 0,
    replicas: Annotated[
        int,
        typer.Option(help="New number of replicas of each block; 0 keeps the present one.", min=0),
    ] = 0,
    heads: Annotated[
        int | None,
        typer.Option(help="New number of workers that each replica has for the head only.", min=0),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Number of workers instead; the service chooses the fastest number of blocks, "
            "replicas and heads.",
            min=0,
        ),
    ] = 0,
) -> None:
    """Continue a job with another number of blocks, replicas or heads.

    Another number of blocks keeps every bit of the result. Another number of replicas or heads can
    change the last bits.

    Examples:
        errorcast scale latest --blocks 3
        errorcast scale latest --workers 4
    """
    if not (blocks or replicas or workers) and heads is None:
        raise JobError("give --blocks, --replicas or --heads, or --workers instead")
    job = client.scale(job_id, blocks, replicas, heads, workers)
    print_job(job, form, f"watch it with: errorcast watch {job.id}")


@with_client
def cancel(client: "Client", form: Form, job_id: JobId) -> None:
    """End a job; its log and checkpoints stay.

    Example:
        errorcast cancel latest
    """
    job = client.cancel(job_id)
    print_job(job, form, f"read its log with: errorcast logs {job.id}")


@with_client
def delete(client: "Client", form: Form, job_id: JobId) -> None:
    """Delete a job that has ended, with all its files.

    Example:
        errorcast delete digits-0001
    """
    client.delete(job_id)
    print_done(form, f"{job_id} is deleted", id=job_id, removed=True)
