"""What the experiments found, as tables for the terminal."""

from collections.abc import Mapping, Sequence
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

from coordinator.experiments.text.layout import Column
from coordinator.experiments.text.table import TextTable

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


def target_table(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return how long each side trained to reach the target."""
    cells = []
    for row in rows:
        last = row["scores"][-1] if row["scores"] else {}
        scores = "  ".join(f"{name} {value:.4f}" for name, value in last.items())
        reached = "yes" if row["reached"] else f"no: {row['failed']}" if row["failed"] else "no"
        start = (row["label"], str(row["microbatches"]), f"{row['seconds']:.1f}")
        cells.append((*start, str(row["epochs"]), reached, scores))
    return TextTable(
        title="training time to the target, without evaluations",
        columns=[
            Column("schedule", key=True),
            Column("M", right=True, key=True),
            Column("seconds", right=True),
            Column("epochs", right=True),
            Column("reached"),
            Column("last scores"),
        ],
        rows=cells,
    )


def board_table(found: "BoardTable") -> TextTable:
    """Return one target of a board of time to quality."""
    return TextTable(
        title=f"{found.name}: {found.goal}",
        columns=[
            Column("", right=True, key=True),
            Column("method", key=True),
            Column("what it is", optional=1),
            Column("seconds"),
            Column("steps", right=True),
        ],
        rows=found.rows(),
        more="the page, or --format json",
    )


def prediction_table(rows: "Sequence[tuple[str, Prediction | str]]") -> TextTable:
    """Return predictions as a table; the peers' columns are errorcast's speedup over each."""
    found = [p for _, p in rows if not isinstance(p, str)]
    texts = ("head", "set by")
    names = ("head", "M", "step, ms", "set by", "effic.", "MB each", "MB sent")
    peers = list(found[0].speedups) if found else []
    return TextTable(
        title="Predicted step of errorcast, and its speedup over each schedule\n"
        "K: blocks; R: replicas; M: microbatches, the best number for each schedule. head: in the "
        "last block, with the coordinator, or the number of workers that each replica has for it. "
        "Each schedule has the same number of workers.",
        columns=[
            Column("K", right=True, key=True),
            Column("R", right=True, key=True),
            *(Column(name, right=name not in texts) for name in (*names, *peers)),
        ],
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


def bench_table(found: Mapping[str, Any], every: bool) -> TextTable:
    """Return a comparison as a table; below it, why sides could not run."""
    summary = found["summary"]
    reported = _reported_rows(found["rows"], every)
    figures = (*_BENCH_SHOWN, *_BENCH_BESIDE)
    return TextTable(
        title=f"{found['task']}, {summary['workers']} workers, batch {summary['batch_size']}",
        columns=[
            Column(_BENCH_KEYS[0], key=True),
            Column(_BENCH_KEYS[1], right=True, key=True),
            *(Column(name, right=True) for name in figures),
        ],
        rows=[
            _bench_row(row)[: len(_BENCH_KEYS) + len(figures)]
            for row in reported
            if not row["reason"]
        ],
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


def method_table(rows: "Sequence[Row]", title: str) -> TextTable:
    """Return one row for each method: mean and standard deviation of its test scores."""
    cells = []
    for row in rows:
        scores = [f"{m:.4f} ± {s:.4f}" for m, s in row.summary().values()]
        seeds = len(row.steps)
        steps, seconds = sum(row.steps) / seeds, sum(row.seconds) / seeds
        cells.append([row.method, *scores, f"{steps:,.0f}", f"{seconds:.1f}"])
    numbers = (*rows[0].scores[0], "steps", "seconds")
    return TextTable(
        title=title,
        columns=[Column("method", key=True), *(Column(name, right=True) for name in numbers)],
        rows=cells,
    )


def alignment_table(row: "Row") -> TextTable:
    """Return the cosine of each layer at the first, the middle and the last checkpoint."""
    points = row.alignment[0]
    chosen = sorted({0, len(points) // 2, len(points) - 1})
    cells = []
    for position, (layer, _) in enumerate(points[0][1]):
        cosines = []
        for index in chosen:
            values = [of_seed[index][1][position][1] for of_seed in row.alignment]
            cosines.append(f"{mean(values):.3f} ± {pstdev(values):.3f}")
        cells.append([layer, *cosines])
    return TextTable(
        title=f"{row.method}: alignment with the exact gradient",
        columns=[
            Column("layer", key=True),
            *(Column(f"step {points[index][0]}", right=True) for index in chosen),
        ],
        rows=cells,
    )


def chaos_table(faults: "Sequence[Fault]", sums: Mapping[str, Any]) -> TextTable:
    """Return the faults of a run, and how it recovered from each."""
    times = sums["recovery_s"]
    longest = f", median {times['median']:.1f} s, longest {times['longest']:.1f} s" if times else ""
    same = {True: "equal", False: "DIFFERENT"}
    cells = []
    for fault in faults:
        seconds = "" if fault.recovered_s is None else f"{fault.recovered_s:.1f}"
        what = fault.action if fault.struck_at is not None else "(none: the run had ended)"
        cells.append((str(fault.step), what, fault.victim_name, seconds, str(fault.repeated)))
    return TextTable(
        title=f"{sums['faults']} fault(s), {sums['recoveries']} recovered{longest}\n"
        f"compared with the run without faults: weights {same[sums['same_weights']]}, losses "
        f"{same[sums['same_losses']]}, {sums['seconds_lost']:+.0f} s, {sums['steps_repeated']} "
        "step(s) repeated",
        columns=[
            Column("after step", right=True, key=True),
            Column("fault"),
            Column("victim"),
            Column("recovered, s", right=True),
            Column("steps repeated", right=True),
        ],
        rows=cells,
    )
