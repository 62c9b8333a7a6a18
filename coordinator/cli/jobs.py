"""`errorcast jobs` and `errorcast job`."""

from typing import TYPE_CHECKING

from coordinator.cli.connection import Form, JobId, print_json, with_client

if TYPE_CHECKING:
    from coordinator.client import Client


@with_client
def jobs(client: "Client", form: Form) -> None:
    """List all jobs of the service, newest first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from coordinator.cli.job_text import moment, progress_text, shape_text, state_name

    found = list(client.jobs())
    owned = len({job.owner for job in found}) > 1
    table = Table(box=SIMPLE_HEAD)
    for name in (
        "job",
        *(("owner",) if owned else ()),
        "state",
        "blocks",
        "submitted, UTC",
        "progress",
        "reason",
    ):
        table.add_column(name, justify="right" if name == "blocks" else "left")
    for job in found:
        if form is Form.JSON:
            print_json(job)
        table.add_row(
            job.id,
            *((job.owner,) if owned else ()),
            state_name(job.state),
            shape_text(job.spec),
            moment(job.submitted),
            progress_text(job.progress),
            job.reason,
        )
    if form is Form.TEXT:
        if table.row_count:
            Console().print(table)
        else:
            print("no jobs yet; submit one with: errorcast submit digits")


@with_client
def job(client: "Client", form: Form, job_id: JobId = "latest") -> None:
    """Show one job: its state, progress, scores, the load of its blocks, and its settings."""
    from coordinator.cli.job_text import job_line, moment, uploaded_text
    from coordinator.job.spec import to_yaml

    found = client.job(job_id)
    if form is Form.JSON:
        print_json(found)
        return
    print(job_line(found))
    for name in ("submitted", "started", "ended"):
        if found.HasField(name):
            print(f"{name}: {moment(getattr(found, name))} UTC")
    if found.owner:
        print(f"owner: {found.owner}")
    if found.HasField("uploaded"):
        print(uploaded_text(found))
    if found.metrics:
        print("test " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(found.metrics.items())))
    for load in found.progress.processes:
        layers = f" (layers {load.layers})" if load.layers else ""
        print(f"{load.process}{layers}: busy {load.busy:.0%}")
    print(to_yaml(found.spec), end="")
