"""Shows a run on a terminal: the plan, a progress bar, evaluations, and a table at the end."""

from collections.abc import Mapping, Sequence
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:  # torch's pipelines take 2 s to import
    from coordinator.experiments.chaos import Fault
    from coordinator.experiments.method_comparison import Row
    from dfa_speedup.simulation.scaling import Prediction


def bench_cells(
    rows: Sequence[Mapping[str, Any]], every: bool
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of a comparison: each side at its best, or at every M.

    What a side cannot do is said once.
    """
    columns = [
        "schedule",
        "M",
        "step, ms (quartiles)",
        "predicted",
        "samples/s",
        "speedup",
        "effic.",
        "bubble",
        "MB sent",
        "peak MB",
    ]
    return columns, [_bench_row(row) for row in _reported_rows(rows, every)]


def _reported_rows(rows: Sequence[Mapping[str, Any]], every: bool) -> list[Mapping[str, Any]]:
    first = {(row["schedule"], row["reason"]): row for row in reversed(rows)}
    reported = [row for row in rows if every or row["best"] or not row["speedup"]]
    return [r for r in reported if not r["reason"] or r is first[r["schedule"], r["reason"]]]


def _bench_row(row: Mapping[str, Any]) -> list[str]:
    start = [row["schedule"], str(row["microbatches"])]
    if row["reason"]:
        return [*start, row["reason"], *[""] * 7]

    def number(name: str, form: str, factor: float = 1.0) -> str:
        return "" if row[name] is None else format(row[name] * factor, form)

    return [
        *start,
        f"{row['step_ms']:.1f} ({row['step_ms_low']:.0f}-{row['step_ms_high']:.0f})",
        number("predicted_ms", ".1f"),
        number("samples_per_s", ",.0f"),
        f"{row['speedup']:.2f}x",
        number("efficiency", ".1%"),
        number("bubble", ".1%"),
        number("bytes_per_step", ",.1f", 1e-6),
        number("peak_memory_mb", ",.0f"),
    ]


def target_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return how long each side trained to the target."""
    table = Table(title="time to the target, training alone", box=SIMPLE_HEAD)
    for name in ("schedule", "M", "seconds", "epochs", "reached", "last scores"):
        table.add_column(name, justify="left" if name == "schedule" else "right")
    for row in rows:
        scores = "  ".join(f"{name} {value:.4f}" for name, value in row["scores"][-1].items())
        reached = "yes" if row["reached"] else "no"
        start = (row["schedule"], str(row["microbatches"]), f"{row['seconds']:.1f}")
        table.add_row(*start, str(row["epochs"]), reached, scores)
    return table


def prediction_table(rows: "Sequence[tuple[int, int, Prediction | str]]") -> Table:
    """Return predictions as a table; the peers' columns are errorcast's speedup over each."""
    table = Table(
        title="predicted: K blocks, R replicas; errorcast's step, and its speedup over each "
        "schedule, all at their best M",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    peers = next((list(p.speedups) for _, _, p in rows if not isinstance(p, str)), [])
    columns = ("K", "R", "M", "step, ms", "effic.", "MB each", "MB sent")
    for name in (*columns, *peers):
        table.add_column(name, justify="right")
    for blocks, replicas, found in rows:
        start = [str(blocks), str(replicas)]
        if isinstance(found, str):
            table.add_row(*start, "", found)
            continue
        over = ["" if s is None else f"{s:.2f}x" for s in found.speedups.values()]
        table.add_row(
            *start,
            str(found.microbatches),
            f"{1e3 * found.seconds:,.2f}",
            f"{found.efficiency:.1%}",
            f"{found.memory_mb:,.0f}",
            f"{found.bytes_per_step / 1e6:,.0f}",
            *over,
        )
    return table


def _percent(share: float | None) -> str:
    return "?%" if share is None else f"{share:.1%}"


def bench_table(found: Mapping[str, Any], every: bool) -> Table:
    """Return a comparison as a table."""
    sums = found["summary"]
    over = sums["speedup_over_best_pipeline"]
    best = f"; {over:.2f}x the best pipeline ({sums['best_pipeline']})" if over else ""
    table = Table(
        title=f"{found['task']}, {sums['blocks']} blocks, batch {sums['batch_size']}: "
        f"errorcast's step is {_percent(sums['efficiency'])} compute alone "
        f"({_percent(sums['efficiency_loaded'])} with all workers computing){best}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    reported = _reported_rows(found["rows"], every)
    columns, cells = bench_cells([row for row in reported if not row["reason"]], every)
    for name in columns:
        justify: Any = "left" if name == "schedule" else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for cell in cells:
        table.add_row(*cell)
    table.caption_justify = "left"
    table.caption = "\n".join(
        f"{row['schedule']}, M {row['microbatches']}: {row['reason']}"
        for row in reported
        if row["reason"]
    )
    return table


def method_table(rows: "Sequence[Row]", title: str) -> Table:
    """Return a row a method: its test scores, mean and standard deviation over the seeds."""
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("method")
    for name in (*rows[0].scores[0], "steps", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        scores = [f"{m:.4f} ± {s:.4f}" for m, s in row.summary().values()]
        seeds = len(row.steps)
        steps, seconds = sum(row.steps) / seeds, sum(row.seconds) / seeds
        table.add_row(row.method, *scores, f"{steps:,.0f}", f"{seconds:.1f}")
    return table


def alignment_table(row: "Row") -> Table:
    """Return the cosine of each layer at the first, the middle and the last look."""
    table = Table(title=f"{row.method}: alignment with the exact gradient", box=SIMPLE_HEAD)
    table.add_column("layer")
    looks = row.alignment[0]
    chosen = sorted({0, len(looks) // 2, len(looks) - 1})
    for index in chosen:
        table.add_column(f"step {looks[index][0]}", justify="right")
    for position, (layer, _) in enumerate(looks[0][1]):
        cells = []
        for index in chosen:
            values = [of_seed[index][1][position][1] for of_seed in row.alignment]
            cells.append(f"{mean(values):.3f} ± {pstdev(values):.3f}")
        table.add_row(layer, *cells)
    return table


def chaos_table(faults: "Sequence[Fault]", sums: Mapping[str, Any]) -> Table:
    """Return the faults of a run and what came of them."""
    times = sums["recovery_s"]
    longest = f", median {times['median']:.1f} s, longest {times['longest']:.1f} s" if times else ""
    same = {True: "the same", False: "OTHER"}
    table = Table(
        title=f"{sums['faults']} faults, {sums['recoveries']} recoveries{longest}\n"
        f"{sums['seconds_lost']:.0f} s lost, {sums['steps_repeated']} steps done again; "
        f"{same[sums['same_weights']]} weights, {same[sums['same_losses']]} losses as left alone",
        box=SIMPLE_HEAD,
    )
    for name in ("behind step", "what", "whom", "recovered, s", "steps again"):
        table.add_column(name, justify="left" if name in ("what", "whom") else "right")
    for fault in faults:
        seconds = "" if fault.recovered_s is None else f"{fault.recovered_s:.1f}"
        what = fault.action if fault.struck_at is not None else "(the run had ended)"
        table.add_row(str(fault.step), what, fault.whom, seconds, str(fault.repeated))
    return table
