"""`errorcast plan`."""

from typing import Annotated, Any

import typer

Option = typer.Option


def plan(
    task: Annotated[
        str, typer.Argument(help="A task (see `errorcast tasks`) or path/to/mytask.py:function.")
    ] = "mlp",
    blocks: Annotated[str, Option(help="Numbers of blocks; `...` goes on doubling.")] = (
        "1,2,4,8,...,1024"
    ),
    replicas: Annotated[str, Option(help="Copies of every block.")] = "1",
    link: Annotated[str, Option(help="Bandwidth between workers, bits: 100Gb/s.")] = "100Gb/s",
    latency: Annotated[str, Option(help="Of a message: 5us, 0.1ms.")] = "5us",
    batch_size: Annotated[str | None, Option(help="Samples a step.")] = None,
    width: Annotated[int | None, Option(help="The task's option `width`.")] = None,
    layers: Annotated[int | None, Option(help="The task's option `layers`.")] = None,
    data_dir: Annotated[str | None, Option(help="Folder of the data sets.")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="Any field of the job.")] = None,
) -> None:
    """Predict step times on machines that are not there yet, from layers measured here."""
    from rich.console import Console

    from coordinator.cli.units import bits_per_second, doubling, seconds
    from coordinator.experiments.prediction import predict
    from coordinator.experiments.tables import prediction_table
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import assignment, given, merge, whole_numbers
    from dfa_speedup.simulation.link import Link

    numbers, copies = doubling("blocks", blocks), whole_numbers("replicas", replicas)
    if task == "mlp":  # a standard network with a layer for every block, unless another is named
        layers = max(8, *numbers) if layers is None else layers
        batch_size = batch_size or str(max(512, 4 * max(numbers) * max(copies)))
    flags: dict[str, Any] = {
        "batch_size": batch_size,
        "data_dir": data_dir,
        "options": given({"width": width, "layers": layers}),
    }
    settings = merge(given(flags), *(assignment(text) for text in set_ or []))
    settings |= {"microbatches": 1, "blocks": 1}
    wire = Link(seconds("latency", latency), bits_per_second("link", link) / 8)
    console = Console()
    with console.status("measuring the layers"):
        predictions = predict(resolve(task, settings), numbers, copies, wire)
    console.print(prediction_table(predictions))
    console.print(
        "assumes: a core or GPU as fast as this one for each worker; costs in proportion to the "
        "samples; messages that slow no computing; each schedule at its best of K, 2K, 4K "
        "microbatches; beyond 32 blocks equal blocks"
    )
