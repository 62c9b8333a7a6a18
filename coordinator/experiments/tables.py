"""What the experiments found, as tables for the terminal."""

from collections.abc import Mapping, Sequence
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from coordinator.experiments.wide_table import WideTable

if TYPE_CHECKING:  # torch's pipelines take 2 s to import
    from coordinator.experiments.chaos import Fault
    from coordinator.experiments.leaderboard.page import Table as BoardTable
    from coordinator.experiments.method_comparison import Row
    from dfa_speedup.simulation.scaling import Prediction

_BENCH_KEYS = ("schedule", "M")
_BENCH_SHOWN = ("step, ms (quartiles)", "speedup (quartiles)")
_BENCH_BESIDE = ("bubble", "peak MB")
_BENCH_REPORTED = (
    *("samples/s", "samples/s a worker", "GFLOP/s a worker", "MFU"),
    *("predicted, ms", "effic.", "MB sent"),
)


def bench_cells(
    rows: Sequence[Mapping[str, Any]], every: bool
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of a comparison: each side at its best, or at every M.

    The reason why a side cannot run appears once.
    """
    columns = [*_BENCH_KEYS, *_BENCH_SHOWN, *_BENCH_BESIDE, *_BENCH_REPORTED]
    return columns, [_bench_row(row) for row in _reported_rows(rows, every)]


def _reported_rows(rows: Sequence[Mapping[str, Any]], every: bool) -> list[Mapping[str, Any]]:
    first = {(row["schedule"], row["reason"]): row for row in reversed(rows)}
    reported = [row for row in rows if every or row["best"] or not row["speedup"]]
    return [r for r in reported if not r["reason"] or r is first[r["schedule"], r["reason"]]]


def _bench_row(row: Mapping[str, Any]) -> list[str]:
    start = [row["label"], str(row["microbatches"])]
    if row["reason"]:
        return [*start, row["reason"], *[""] * 10]

    def number(name: str, form: str, factor: float = 1.0) -> str:
        return "" if row[name] is None else format(row[name] * factor, form)

    step, low, high = (row[name] for name in ("step_ms", "step_ms_low", "step_ms_high"))
    digits = 1 if high < 100 else 0
    over = f"{row['speedup']:.2f}x"
    if row["speedup_low"] != row["speedup_high"]:
        over += f" {row['speedup_low']:.2f}-{row['speedup_high']:.2f}"
    return [
        *start,
        f"{step:,.{1 if high < 1000 else 0}f} {low:.{digits}f}-{high:.{digits}f}",
        over,
        number("bubble", ".1%"),
        number("peak_memory_mb", ",.0f"),
        number("samples_per_s", ",.0f"),
        number("samples_per_s_a_worker", ",.0f"),
        number("gflops_per_s_a_worker", ",.1f"),
        number("mfu", ".1%"),
        number("predicted_ms", ".1f"),
        number("efficiency", ".1%"),
        number("bytes_per_step", ",.1f", 1e-6),
    ]


def target_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return how long each side trained to reach the target."""
    table = Table(title="training time to the target, without evaluations", box=SIMPLE_HEAD)
    for name in ("schedule", "M", "seconds", "epochs", "reached", "last scores"):
        table.add_column(name, justify="left" if name == "schedule" else "right")
    for row in rows:
        last = row["scores"][-1] if row["scores"] else {}
        scores = "  ".join(f"{name} {value:.4f}" for name, value in last.items())
        reached = "yes" if row["reached"] else f"no: {row['failed']}" if row["failed"] else "no"
        start = (row["label"], str(row["microbatches"]), f"{row['seconds']:.1f}")
        table.add_row(*start, str(row["epochs"]), reached, scores)
    return table


def board_table(found: "BoardTable") -> Table:
    """Return one target of a board of time to quality."""
    table = Table(title=f"{found.name}: {found.goal}", box=SIMPLE_HEAD)
    for name in ("", "method", "", "seconds", "steps"):
        table.add_column(name, justify="right" if name in ("seconds", "steps") else "left")
    for row in found.rows():
        table.add_row(*row)
    return table


def prediction_table(rows: "Sequence[tuple[str, Prediction | str]]") -> WideTable:
    """Return predictions as a table; the peers' columns are errorcast's speedup over each."""
    found = [p for _, p in rows if not isinstance(p, str)]
    return WideTable(
        title="Predicted step of errorcast, and its speedup over each schedule, for K blocks and "
        "R replicas; each at its best number of microbatches M. The head is in the last block, "
        "with the coordinator, or in so many workers of each replica; each schedule has as many "
        "workers",
        keys=("K", "R"),
        first=("head", "M", "step, ms", "set by", "effic.", "MB each", "MB sent"),
        second=list(found[0].speedups) if found else [],
        rows=[_prediction_row(p) for p in found],
        notes=[f"{what}: {p}" for what, p in rows if isinstance(p, str)],
    )


def _prediction_row(found: "Prediction") -> list[str]:
    speedups = ["" if s is None else f"{s:.2f}x" for s in found.speedups.values()]
    return [
        str(found.shape.blocks),
        str(found.shape.replicas),
        str(found.shape.heads or found.shape.head.replace("coordinator", "coord")),
        str(found.microbatches),
        f"{1e3 * found.seconds:,.2f}",
        found.set_by,
        f"{found.efficiency:.1%}",
        f"{found.memory_mb:,.0f}",
        f"{found.bytes_per_step / 1e6:,.0f}",
        *speedups,
    ]


def bench_table(found: Mapping[str, Any], every: bool) -> WideTable:
    """Return a comparison as a table; below it, why sides could not run."""
    summary = found["summary"]
    reported = _reported_rows(found["rows"], every)
    columns = len(_BENCH_KEYS) + len(_BENCH_SHOWN) + len(_BENCH_BESIDE)
    return WideTable(
        title=f"{found['task']}, {summary['workers']} workers, batch {summary['batch_size']}",
        keys=_BENCH_KEYS,
        first=_BENCH_SHOWN,
        second=_BENCH_BESIDE,
        rows=[_bench_row(row)[:columns] for row in reported if not row["reason"]],
        notes=_bench_notes(found, reported),
    )


def _bench_notes(found: Mapping[str, Any], reported: Sequence[Mapping[str, Any]]) -> list[str]:
    summary = found["summary"]
    notes = [
        f"{row['label']}, M {row['microbatches']}: {row['reason']}"
        for row in reported
        if row["reason"]
    ]
    notes += [
        f"{row['label']}, M {row['microbatches']}, in a later round: {row['failed']}"
        for row in found["rows"]
        if row.get("failed")
    ]
    if summary["efficiency"] is not None:
        loaded = summary["efficiency_loaded"]
        also = "" if loaded is None else f" ({loaded:.1%} when all workers compute at once)"
        notes.append(f"{summary['efficiency']:.1%} of errorcast's step is compute{also}")
    return notes


def method_table(rows: "Sequence[Row]", title: str) -> Table:
    """Return one row for each method: mean and standard deviation of its test scores."""
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for name in (*rows[0].scores[0], "steps", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        scores = [f"{m:.4f} ± {s:.4f}" for m, s in row.summary().values()]
        seeds = len(row.steps)
        steps, seconds = sum(row.steps) / seeds, sum(row.seconds) / seeds
        table.add_row(row.method, *scores, f"{steps:,.0f}", f"{seconds:.1f}")
    return table


def alignment_table(row: "Row") -> Table:
    """Return the cosine of each layer at the first, the middle and the last checkpoint."""
    table = Table(title=f"{row.method}: alignment with the exact gradient", box=SIMPLE_HEAD)
    table.add_column("layer")
    points = row.alignment[0]
    chosen = sorted({0, len(points) // 2, len(points) - 1})
    for index in chosen:
        table.add_column(f"step {points[index][0]}", justify="right")
    for position, (layer, _) in enumerate(points[0][1]):
        cells = []
        for index in chosen:
            values = [of_seed[index][1][position][1] for of_seed in row.alignment]
            cells.append(f"{mean(values):.3f} ± {pstdev(values):.3f}")
        table.add_row(layer, *cells)
    return table


def chaos_table(faults: "Sequence[Fault]", sums: Mapping[str, Any]) -> Table:
    """Return the faults of a run, and how it recovered from each."""
    times = sums["recovery_s"]
    longest = f", median {times['median']:.1f} s, longest {times['longest']:.1f} s" if times else ""
    same = {True: "equal", False: "DIFFERENT"}
    table = Table(
        title=f"{sums['faults']} faults, {sums['recoveries']} recoveries{longest}\n"
        f"{sums['seconds_lost']:.0f} s lost, {sums['steps_repeated']} steps repeated; "
        f"weights {same[sums['same_weights']]}, losses {same[sums['same_losses']]} "
        "compared with the undisturbed run",
        box=SIMPLE_HEAD,
    )
    for name in ("after step", "fault", "victim", "recovered, s", "steps repeated"):
        table.add_column(name, justify="left" if name in ("fault", "victim") else "right")
    for fault in faults:
        seconds = "" if fault.recovered_s is None else f"{fault.recovered_s:.1f}"
        what = fault.action if fault.struck_at is not None else "(none: the run had ended)"
        table.add_row(str(fault.step), what, fault.victim_name, seconds, str(fault.repeated))
    return table
