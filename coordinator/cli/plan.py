"""`errorcast plan`."""

from typing import Annotated, Any

import typer

from coordinator.cli.options import BatchSize, DataDir, Layers, Set, TaskName, Width

Option = typer.Option


def plan(
    task: TaskName = "mlp",
    blocks: Annotated[str, Option(help="Numbers of blocks; `...` continues by doubling.")] = (
        "1,2,4,8,...,1024"
    ),
    replicas: Annotated[str, Option(help="Numbers of copies of each block.")] = "1",
    workers: Annotated[
        str | None,
        Option(
            help="Numbers of workers, instead of blocks and replicas; for each one, the fastest "
            "number of blocks and replicas and the fastest place of the head are shown."
        ),
    ] = None,
    link: Annotated[
        str, Option(help="Bandwidth between workers, in bits per second, such as 100Gb/s.")
    ] = "100Gb/s",
    latency: Annotated[str, Option(help="Latency of a message, such as 5us or 0.1ms.")] = "5us",
    batch_size: BatchSize = None,
    width: Width = None,
    layers: Layers = None,
    data_dir: DataDir = None,
    set_: Set = None,
) -> None:
    """Predict the time of a step on more machines, from the layers measured on this one.

    Examples:
        errorcast plan mlp --blocks 1,2,4,8
        errorcast plan digits --blocks 1,2,3 --link 10Gb/s --latency 50us
    """
    from coordinator.cli.terminal import Terminal
    from coordinator.cli.units import bits_per_second, doubling, seconds
    from coordinator.experiments.tables import prediction_table
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import from_flags, given, whole_numbers
    from coordinator.planning.prediction import predict, predict_fastest
    from dfa_speedup.simulation.link import Link

    numbers, copies = doubling("blocks", blocks), whole_numbers("replicas", replicas)
    counts = None if workers is None else doubling("workers", workers)
    if task == "mlp":  # by default, a network with a layer for every block
        layers = max(8, *(counts or numbers)) if layers is None else layers
        most = max(counts) if counts else max(numbers) * max(copies)
        batch_size = batch_size or str(max(512, 4 * most))
    flags: dict[str, Any] = {
        "batch_size": batch_size,
        "data_dir": data_dir,
        "options": given({"width": width, "layers": layers}),
    }
    settings = from_flags(flags, set_)
    settings |= {"microbatches": 1, "blocks": 1}
    wire = Link(seconds("latency", latency), bits_per_second("link", link) / 8)
    console = Terminal()
    with console.working("measuring the layers"):
        job = resolve(task, settings)
        predictions = (
            predict(job, numbers, copies, wire)
            if counts is None
            else predict_fastest(job, counts, wire)
        )
    console.print(prediction_table(predictions))
    console.say(
        "Assumptions: each worker has a core or GPU as fast as this one. Costs are proportional to "
        "the number of samples. Messages do not slow the computation. Each schedule uses its best "
        "number of microbatches, up to 4 for each block. With more than 32 blocks, all blocks are "
        "equal."
    )
