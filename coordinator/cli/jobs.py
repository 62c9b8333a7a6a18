"""`errorcast jobs` and `errorcast job`."""

from typing import TYPE_CHECKING

from coordinator.cli.connection import Form, JobId, print_json, with_client

if TYPE_CHECKING:
    from coordinator.client import Client


@with_client
def jobs(client: "Client", form: Form) -> None:
    """List the jobs of the service, the newest first.

    Examples:
        errorcast jobs
        errorcast jobs --format json
    """
    from coordinator.cli.job_text import job_table
    from coordinator.cli.terminal import Terminal

    found = list(client.jobs())
    if form is Form.JSON:
        for job in found:
            print_json(job)
    elif found:
        Terminal().print(job_table(found))
    else:
        print("no jobs yet; submit one with: errorcast submit digits")


@with_client
def job(client: "Client", form: Form, job_id: JobId = "latest") -> None:
    """Show one job: its state, progress, scores, the load of its blocks, and its settings.

    Examples:
        errorcast job
        errorcast job digits-0001 --format json
    """
    from coordinator.cli.job_text import job_line, moment, uploaded_text
    from coordinator.cli.terminal import Terminal
    from coordinator.job.spec import to_yaml

    found = client.job(job_id)
    if form is Form.JSON:
        print_json(found)
        return
    console = Terminal()
    console.say(job_line(found))
    for name in ("submitted", "started", "ended"):
        if found.HasField(name):
            console.say(f"{name}: {moment(getattr(found, name))} UTC")
    if found.owner:
        console.say(f"owner: {found.owner}")
    if found.HasField("uploaded"):
        console.say(uploaded_text(found))
    if found.metrics:
        console.say("test " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(found.metrics.items())))
    for load in found.progress.processes:
        layers = f" (layers {load.layers})" if load.layers else ""
        console.say(f"{load.process}{layers}: busy {load.busy:.0%}")
    print(to_yaml(found.spec), end="")
