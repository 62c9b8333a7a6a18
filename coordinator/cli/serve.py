"""`errorcast serve`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.connection import Form, Format

Option = typer.Option


def serve(
    listen: Annotated[
        str, Option(help="host:port on which the service takes gRPC calls.")
    ] = "127.0.0.1:7070",
    state: Annotated[
        Path | None,
        Option(help="Folder for the jobs and their checkpoints; default: errorcast-state."),
    ] = None,
    ray_address: Annotated[
        str, Option(help="Address of a Ray cluster, or auto; default: start Ray on this machine.")
    ] = "",
    cpus: Annotated[
        int | None,
        Option(help="Number of CPUs for the Ray that the service starts; default: all.", min=1),
    ] = None,
    web: Annotated[
        str | None, Option(help="host:port of the web page and of /metrics; default: none.")
    ] = None,
    token_file: Annotated[
        Path | None,
        Option(help="File with the token that clients need; with --users it is an admin's token."),
    ] = None,
    users: Annotated[
        Path | None, Option(help="File of users, each with a token; `errorcast user` adds one.")
    ] = None,
    tls_cert: Annotated[Path | None, Option(help="PEM file of the service's certificate.")] = None,
    tls_key: Annotated[
        Path | None, Option(help="PEM file of the private key of --tls-cert.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        Option(help="PEM file of the authority that must have signed a client's certificate."),
    ] = None,
    allow_code: Annotated[
        list[Path] | None,
        Option(help="Folder on this machine with task files that jobs may use. Repeatable."),
    ] = None,
    data_root: Annotated[
        list[Path] | None, Option(help="Folder that may contain a job's data_dir. Repeatable.")
    ] = None,
    allow_uploads: Annotated[
        bool, Option("--allow-uploads", help="Accept code from users and run it.")
    ] = False,
    allow_requirements: Annotated[
        bool,
        Option(
            "--allow-requirements",
            help="Install the packages in the requirements.txt of such code.",
        ),
    ] = False,
    insecure: Annotated[
        bool,
        Option("--insecure", help="Allow an address other than loopback without TLS and a token."),
    ] = False,
    form: Format = Form.TEXT,
) -> None:
    """Run the service: it takes jobs over gRPC and runs them on a Ray cluster or this machine.

    It runs until you press Ctrl-C, which saves and stops all jobs; the next start continues them.

    Examples:
        errorcast serve
        errorcast serve --state /var/lib/errorcast --web 127.0.0.1:8080
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are reported in one line
    import json

    from coordinator.service.api.server import serve as run_service
    from coordinator.service.settings import ServiceSettings, others_can_read, read_secret
    from workers.machine.cpus import usable_cpus

    folder = (state or Path("errorcast-state")).absolute()
    given_data = os.environ.get("ERRORCAST_DATA")
    if given_data:  # the workers have other working directories
        given_data = str(Path(given_data).expanduser().absolute())
        os.environ["ERRORCAST_DATA"] = given_data
    roots = [*(data_root or []), *([Path(given_data)] if given_data else [])]
    settings = ServiceSettings(
        state=folder,
        listen=listen,
        web=web,
        ray_address=ray_address,
        cpus=cpus or usable_cpus(),
        token=read_secret("--token-file", token_file) if token_file is not None else None,
        users=users,
        certificate=tls_cert,
        key=tls_key,
        client_ca=tls_client_ca,
        code=tuple(path.absolute() for path in allow_code or []),
        data=tuple(path.absolute() for path in roots),
        uploads=allow_uploads,
        requirements=allow_requirements,
        insecure=insecure,
    )

    def announce(address: str, page: str | None) -> None:
        if form is Form.JSON:
            facts = {"listen": address, "page": page, "state": str(folder)}
            print(json.dumps(facts), flush=True)
            return
        if others_can_read(token_file):
            print(f"warning: others can read {token_file}: chmod 600 {token_file}", flush=True)
        print(f"listens on {address}, state in {folder}", flush=True)
        if page is not None:
            print(f"page and metrics on {page}", flush=True)
        print(
            "submit a job with: errorcast submit JOB.yaml; Ctrl-C saves and stops all jobs",
            flush=True,
        )

    run_service(settings, announce)
