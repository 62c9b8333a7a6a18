"""What all verbs that call a service share: how to reach it, and how to print its answers."""

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from coordinator.client import Client


class Form(StrEnum):
    """The form of the output: text for people, or one JSON object a line for programs."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[Form, typer.Option("--format", help="text for people, json for programs.")]
JobId = Annotated[str, typer.Argument(help="Id of the job, or latest.")]


def _options(
    address: Annotated[
        str | None,
        typer.Option(
            help="host:port of the service; default: ERRORCAST_ADDRESS or 127.0.0.1:7070."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with your token; default: the token in ERRORCAST_TOKEN."),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the authority that signed the service's certificate; "
            "default: ERRORCAST_TLS_CA."
        ),
    ] = None,
    form: Format = Form.TEXT,
) -> tuple["Client", Form]:
    return connect(address, token_file, tls_ca), form


def with_client(verb: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a verb whose first parameters are a client and a Form.

    In place of these two the command has the options that say where the service is, and --format.
    """
    own = list(signature(verb).parameters.values())[2:]
    shared = list(signature(_options).parameters.values())

    @wraps(verb)
    def command(**arguments: Any) -> None:
        client, form = _options(**{option.name: arguments.pop(option.name) for option in shared})
        with client:
            verb(client, form, **arguments)

    parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*own, *shared)]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = signature(verb).replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def connect(address: str | None, token_file: Path | None, tls_ca: Path | None) -> "Client":
    """Return a client. Raises JobError for a file that cannot be read."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are reported in one line
    import stamina

    from coordinator.client import Client
    from coordinator.service.settings import read_secret
    from dfa_core.errors import JobError

    stamina.instrumentation.set_on_retry_hooks([])  # the default hook prints each attempt
    token = read_secret("--token-file", token_file) if token_file is not None else None
    files = {key: os.environ.get(f"ERRORCAST_TLS_{key}") for key in ("CA", "CERT", "KEY")}
    authority = str(tls_ca) if tls_ca is not None else files["CA"]
    key, chain = files["KEY"], files["CERT"]
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
    """Print a message as one line of JSON, with the field names of the .proto files."""
    from google.protobuf import json_format

    print(json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None))
    sys.stdout.flush()


def print_done(form: Form, text: str, **facts: object) -> None:
    """Print what was done: a line of text, or its facts as one line of JSON."""
    import json

    print(json.dumps(facts) if form is Form.JSON else text)


def print_job(job: Any, form: Form, what_next: str = "") -> None:
    """Print a job: one line and what to do next, or JSON."""
    if form is Form.JSON:
        print_json(job)
        return
    from coordinator.cli.job_text import job_line
    from coordinator.cli.terminal import Terminal

    Terminal().say(job_line(job))
    if what_next:
        print(what_next)
