"""`errorcast download`, `errorcast predict` and `errorcast timeline`: the results of a job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.connection import Form, JobId, print_done, with_client

if TYPE_CHECKING:
    from coordinator.client import Client

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]


@with_client
def download(
    client: "Client", form: Form, job_id: JobId, output: Output = Path("model.safetensors")
) -> None:
    """Download a job's newest weights as a safetensors file.

    Example:
        errorcast download latest --output model.safetensors
    """
    step = client.download(job_id, output)
    size = output.stat().st_size
    text = f"{output}: weights after step {step}, {size:,} bytes"
    print_done(form, text, output=str(output), step=step, bytes=size)


@with_client
def predict(
    client: "Client",
    form: Form,
    job_id: JobId,
    input_: Annotated[
        Path, typer.Option("--input", help=".npy file with samples; the first axis counts them.")
    ],
    output: Output = Path("output.npy"),
) -> None:
    """Compute outputs for your samples with a job's newest weights.

    Example:
        errorcast predict latest --input samples.npy --output outputs.npy
    """
    import numpy as np

    from dfa_core.errors import JobError

    try:
        samples = np.load(input_, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise JobError(f"--input {input_}: is not a .npy file of numbers: {error}") from error
    outputs = client.predict(job_id, samples)
    with output.open("wb") as file:
        np.save(file, outputs, allow_pickle=False)
    print_done(form, f"{output}: {outputs.shape}", output=str(output), shape=outputs.shape)


@with_client
def timeline(
    client: "Client",
    form: Form,
    job_id: JobId = "latest",
    steps: Annotated[int, typer.Option(help="Number of steps to trace.", min=1, max=10)] = 3,
    output: Output = Path("timeline.json"),
) -> None:
    """Trace a few steps of a running job; Perfetto and Chrome open the file.

    Example:
        errorcast timeline latest --steps 3
    """
    output.write_text(client.timeline(job_id, steps), encoding="utf-8")
    text = f"{output}: open it in Perfetto or chrome://tracing"
    print_done(form, text, output=str(output), steps=steps)
