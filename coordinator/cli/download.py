"""`errorcast download`, `errorcast predict` and `errorcast timeline`: what a job gives out."""

from pathlib import Path
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
)

Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


def download(
    job_id: JobId,
    output: Output = Path("model.safetensors"),
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Write a job's newest weights into a safetensors file."""
    with connect(address, token_file, tls_ca) as client:
        step = client.download(job_id, output)
    size = output.stat().st_size
    text = f"{output}: weights after step {step}, {size:,} bytes"
    print_done(form, text, output=str(output), step=step, bytes=size)


def predict(
    job_id: JobId,
    input_: Annotated[Path, typer.Option("--input", help="Samples as .npy, first axis samples.")],
    output: Output = Path("output.npy"),
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Run samples through a job's newest weights."""
    import numpy as np

    from dfa_core.errors import JobError

    try:
        samples = np.load(input_, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise JobError(f"--input {input_}: is no .npy file of numbers: {error}") from error
    with connect(address, token_file, tls_ca) as client:
        outputs = client.predict(job_id, samples)
    with output.open("wb") as file:
        np.save(file, outputs, allow_pickle=False)
    print_done(form, f"{output}: {outputs.shape}", output=str(output), shape=outputs.shape)


def timeline(
    job_id: JobId = "latest",
    steps: Annotated[int, typer.Option(help="Steps to trace.", min=1, max=10)] = 3,
    output: Output = Path("timeline.json"),
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    form: Format = Form.TEXT,
) -> None:
    """Trace a few steps of a running job, in Chrome's trace form (opens in Perfetto)."""
    with connect(address, token_file, tls_ca) as client:
        output.write_text(client.timeline(job_id, steps), encoding="utf-8")
    text = f"{output}: open it in Perfetto or chrome://tracing"
    print_done(form, text, output=str(output), steps=steps)
