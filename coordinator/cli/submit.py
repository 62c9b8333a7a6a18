"""`errorcast submit`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.connection import (
    Address,
    Form,
    Format,
    TlsCa,
    TokenFile,
    connect,
    print_job,
)

Option = typer.Option


def submit(
    job: Annotated[str, typer.Argument(help="A job.yaml, or a task that the service knows.")],
    set_: Annotated[
        list[str] | None, Option("--set", help="Any field of the job: optimizer.lr=0.0005.")
    ] = None,
    priority: Annotated[int, Option(help="-100 to 100; higher starts first.")] = 0,
    request_id: Annotated[
        str | None, Option(help="A second submission with it returns the same job.")
    ] = None,
    watch: Annotated[bool, Option("--watch", help="Show the job until it ends.")] = False,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Send a job to the service; prints its id."""
    from coordinator.cli.watch import show
    from coordinator.job.spec import assignment, merge, read_yaml

    settings = read_yaml(Path(job)) if job.endswith((".yaml", ".yml")) else {"task": job}
    settings = merge(settings, *(assignment(text) for text in set_ or []))
    with connect(address, token_file, tls_ca) as client:
        made = client.submit(priority=priority, request_id=request_id, **settings)
        if watch:
            show(client, made.id, 0, form)
            return
        next_ = f"watch it with: errorcast watch {made.id}"
        if form is Form.TEXT:
            print(made.id)
            print(f"{made.reason}; {next_}")
        else:
            print_job(made, form)
