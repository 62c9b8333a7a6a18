"""`errorcast summary`."""

from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import BatchSize, Blocks, DataDir, Set, TaskName

if TYPE_CHECKING:
    from coordinator.experiments.text.table import TextTable
    from coordinator.planning.overview import Overview

Option = typer.Option


def summary(
    task: TaskName = "digits",
    blocks: Blocks = None,
    replicas: Annotated[str | None, Option(help="Number of copies of each block.")] = None,
    method: Annotated[str | None, Option(help="Training method: dfa, bp or shallow.")] = None,
    batch_size: BatchSize = None,
    data_dir: DataDir = None,
    set_: Set = None,
    format_: Annotated[
        str, Option("--format", help="table for people, json for programs.")
    ] = "table",
) -> None:
    """Show a job's layers, workers, memory and operations before you train it.

    Examples:
        errorcast summary digits
        errorcast summary mlp --blocks 4 --batch-size 256 --format json
    """
    import json
    from dataclasses import asdict

    from coordinator.cli.terminal import Terminal
    from coordinator.job.resolve import resolve
    from coordinator.job.spec import from_flags
    from coordinator.planning.overview import overview
    from coordinator.training.first_weights import first_model
    from dfa_core import JobError

    if format_ not in ("table", "json"):
        raise JobError(f"--format: {format_} must be table or json")
    flags = {"blocks": blocks, "replicas": replicas, "method": method}
    flags |= {"batch_size": batch_size, "data_dir": data_dir}
    console = Terminal()
    with console.working("running one microbatch through the layers"):
        job = resolve(task, from_flags(flags, set_))
        if job.task.fetch is not None:
            job.task.fetch()
        notes = first_model(job)[1]
        found = overview(job)
    if format_ == "json":
        print(json.dumps(asdict(found)))
        return
    for note in notes:
        console.say(note)
    console.tables(*_tables(found, job.settings.replicas))
    for line in _totals(found):
        console.say(line)


def _tables(found: "Overview", replicas: int) -> "list[TextTable]":
    from coordinator.experiments.text.layout import Column
    from coordinator.experiments.text.table import TextTable

    learned = ("feedback matrix",) if found.matrices else ()
    numbers = ("parameters", *learned, "FLOP a step", "block")
    layers = []
    for row in found.layers:
        block = "coordinator" if row.block is None else str(row.block)
        frozen = "" if row.trained == row.parameters else f" ({row.trained:,} trained)"
        parameters = f"{row.parameters:,}{frozen}"
        learned = (f"{row.matrices:,}",) if found.matrices else ()
        layers.append((row.label, row.output, parameters, *learned, _count(row.flops), block))
    workers = []
    for each in found.workers:
        sizes = (f"{size / 1e6:,.2f}" for size in (each.kept, each.waiting, each.sent))
        workers.append((each.name, f"{each.share:.1%}", *sizes))
    return [
        TextTable(
            title="layers",
            columns=[
                Column("layer", key=True),
                Column("output"),
                *(Column(name, right=True) for name in numbers),
            ],
            rows=layers,
        ),
        TextTable(
            title="workers" if replicas == 1 else f"workers of each of {replicas} replicas",
            columns=[
                Column("worker", key=True),
                *(
                    Column(name, right=True)
                    for name in ("of all FLOP", "weights, MB", "waiting, MB", "sent a step, MB")
                ),
            ],
            rows=workers,
        ),
    ]


def _totals(found: "Overview") -> list[str]:
    tokens = f" = {found.samples * found.tokens:,} tokens" if found.tokens else ""
    return [
        f"{found.parameters:,} parameters, {found.trained:,} trained; a step of {found.samples:,} "
        f"samples{tokens} takes {_count(found.flops)}FLOP",
        *_of_matrices(found),
        "weights: with gradients and optimizer state; waiting: inputs and outputs of layers for "
        "microbatches that wait for their error. Both are lower bounds.",
    ]


def _of_matrices(found: "Overview") -> list[str]:
    if not found.matrices:
        return []
    return [
        f"feedback matrices: {found.matrices:,} entries that change in training; they "
        f"are not counted as parameters"
    ]


def _count(number: float) -> str:
    """Return a number with a unit prefix: `1.5 G`."""
    for power, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:,.2f} {prefix}"
    return f"{number:,.0f} "
