"""`errorcast submit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.connection import Form, print_job, with_client
from coordinator.cli.options import Set

if TYPE_CHECKING:
    from coordinator.client import Client

Option = typer.Option


@with_client
def submit(
    client: "Client",
    form: Form,
    job: Annotated[
        str,
        typer.Argument(
            help="A job file such as job.yaml, the name of a task, or mytask.py:function."
        ),
    ],
    set_: Set = None,
    priority: Annotated[
        int, Option(help="From -100 to 100; jobs with a higher priority start first.")
    ] = 0,
    request_id: Annotated[
        str | None,
        Option(help="An id of your choice; to submit again with the same id returns the same job."),
    ] = None,
    watch: Annotated[bool, Option("--watch", help="Show the job until it ends.")] = False,
) -> None:
    """Send a job to the service and print its id.

    If the task is in a file of yours, the file's folder is sent with the job.

    Examples:
        errorcast submit digits
        errorcast submit deploy/jobs/digits.yaml --set epochs=5 --watch
    """
    from coordinator.cli.job_text import uploaded_text
    from coordinator.cli.watch import show
    from coordinator.job.spec import from_flags, merge, read_yaml

    settings = read_yaml(Path(job)) if job.endswith((".yaml", ".yml")) else {"task": job}
    settings = merge(settings, from_flags({}, set_))
    submitted = client.submit(priority=priority, request_id=request_id, **settings)
    if watch:
        show(client, submitted.id, 0, form)
    elif form is Form.TEXT:
        print(submitted.id)
        if submitted.HasField("uploaded"):
            print(uploaded_text(submitted))
        print(f"{submitted.reason}; watch it with: errorcast watch {submitted.id}")
    else:
        print_job(submitted, form)
