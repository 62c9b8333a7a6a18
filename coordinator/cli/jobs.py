"""`errorcast jobs` and `errorcast job`."""

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


def jobs(
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """List all jobs of the service, newest first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from coordinator.cli.job_text import moment, progress_text, state

    table = Table(box=SIMPLE_HEAD)
    for name in ("job", "state", "blocks", "submitted, UTC", "progress", "why"):
        table.add_column(name, justify="right" if name == "blocks" else "left")
    with connect(address, token_file, tls_ca) as client:
        for job in client.jobs():
            if form is Form.JSON:
                print_json(job)
            copies = f" x {job.spec.replicas}" if job.spec.replicas > 1 else ""
            blocks, when = f"{job.spec.blocks}{copies}", moment(job.submitted)
            table.add_row(job.id, state(job), blocks, when, progress_text(job.progress), job.reason)
    if form is Form.TEXT:
        if table.row_count:
            Console().print(table)
        else:
            print("no job yet; send one with: errorcast submit digits")


def job(
    job_id: JobId = "latest",
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Show one job: state, progress, scores, how busy its blocks are, its settings."""
    from coordinator.cli.job_text import job_line, moment
    from coordinator.job.spec import to_yaml

    with connect(address, token_file, tls_ca) as client:
        found = client.job(job_id)
    if form is Form.JSON:
        print_json(found)
        return
    print(job_line(found))
    for name in ("submitted", "started", "ended"):
        if found.HasField(name):
            print(f"{name}: {moment(getattr(found, name))} UTC")
    if found.metrics:
        print("test " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(found.metrics.items())))
    for load in found.progress.processes:
        print(f"{load.process} (layers {load.layers}): busy {load.busy:.0%}")
    print(to_yaml(found.spec), end="")
