"""The verbs that change a job: pause, resume, scale, cancel, delete."""

from typing import Annotated

import typer

from coordinator.cli.connection import (
    Address,
    Form,
    Format,
    JobId,
    TlsCa,
    TokenFile,
    connect,
    print_done,
    print_job,
)


def pause(
    job_id: JobId,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Save and stop a job; its workers are free for others."""
    with connect(address, token_file, tls_ca) as client:
        job = client.pause(job_id)
        print_job(job, form, f"go on with: errorcast resume {job.id}")


def resume(
    job_id: JobId,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Put a paused job back into the queue."""
    with connect(address, token_file, tls_ca) as client:
        job = client.resume(job_id)
        print_job(job, form, f"watch it with: errorcast watch {job.id}")


def scale(
    job_id: JobId,
    blocks: Annotated[int, typer.Option(help="Layer blocks, each in a worker.")],
    replicas: Annotated[int, typer.Option(help="Copies of every block; 0 leaves them.")] = 0,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Go on with another number of workers; the weights stay, bit for bit."""
    with connect(address, token_file, tls_ca) as client:
        job = client.scale(job_id, blocks, replicas)
        print_job(job, form, f"watch it with: errorcast watch {job.id}")


def cancel(
    job_id: JobId,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """End a job; its log and checkpoints stay."""
    with connect(address, token_file, tls_ca) as client:
        job = client.cancel(job_id)
        print_job(job, form, f"its log: errorcast logs {job.id}")


def delete(
    job_id: JobId,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Remove a job that has ended, with all its files."""
    with connect(address, token_file, tls_ca) as client:
        client.delete(job_id)
    print_done(form, f"{job_id} is removed", id=job_id, removed=True)
