"""What all verbs that talk to a service share: how to reach it, and in which form to answer."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from coordinator.client import Client


class Form(StrEnum):
    """For people, or for programs: one JSON object a line."""

    TEXT = "text"
    JSON = "json"


Address = Annotated[
    str | None,
    typer.Option(help="host:port of the service; default ERRORCAST_ADDRESS or 127.0.0.1:7070."),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the service's token; default ERRORCAST_TOKEN.")
]
TlsCa = Annotated[
    Path | None, typer.Option(help="PEM of the service's authority; default ERRORCAST_TLS_CA.")
]
Format = Annotated[Form, typer.Option("--format", help="text, or json for programs.")]
JobId = Annotated[str, typer.Argument(help="A job's id, or latest.")]


def connect(address: str | None, token_file: Path | None, tls_ca: Path | None) -> "Client":
    """Return a client. Raises JobError for a file that cannot be read."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its errors are told in one line
    import stamina

    from coordinator.client import Client
    from coordinator.service.settings import read_secret
    from dfa_core.errors import JobError

    stamina.instrumentation.set_on_retry_hooks([])  # it would print each attempt
    token = read_secret("--token-file", token_file) if token_file is not None else None
    named = {key: os.environ.get(f"ERRORCAST_TLS_{key}") for key in ("CA", "CERT", "KEY")}
    authority = str(tls_ca) if tls_ca is not None else named["CA"]
    key, chain = named["KEY"], named["CERT"]
    try:
        return Client(
            address,
            token,
            Path(authority).read_bytes() if authority else None,
            (Path(key).read_bytes(), Path(chain).read_bytes()) if key and chain else None,
        )
    except OSError as error:
        raise JobError(f"--tls-ca or ERRORCAST_TLS_*: cannot be read: {error}") from error


def print_json(message: "Message") -> None:
    """Print a message as one line of JSON, field names as in the .proto."""
    from google.protobuf import json_format

    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, indent=None, ensure_ascii=False
    )
    print(text)
    sys.stdout.flush()


def print_done(form: Form, text: str, **facts: object) -> None:
    """Print what was done: a line for people, or its facts as one line of JSON."""
    import json

    print(json.dumps(facts) if form is Form.JSON else text)


def print_job(job: Any, form: Form, what_next: str = "") -> None:
    """Print a job: its line and what to do next, or JSON."""
    if form is Form.JSON:
        print_json(job)
        return
    from coordinator.cli.job_text import job_line

    print(job_line(job))
    if what_next:
        print(what_next)
