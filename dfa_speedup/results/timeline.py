"""timeline.json: what each worker computed, and when it waited, in Chrome's trace format.

It opens in Perfetto (ui.perfetto.dev) or chrome://tracing: a process per side, a row per worker.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dfa_speedup.measured import Measured, Measurements, fastest
from dfa_speedup.peers import PIPELINES
from workers.trace import Span

_SHORTEST_WAIT_S = 1e-4


def compared_spans(found: Measurements) -> dict[str, list[list[Span]]]:
    """Return what a timeline shows: errorcast, and the best pipeline of as many microbatches.

    Where no pipeline ran with that many, it is the best of any number.
    """
    ours = found.ours()
    m = ours.configuration.microbatches
    pipelines = [side for side in found.sides if side.configuration.schedule in PIPELINES]
    same = fastest(side for side in pipelines if side.configuration.microbatches == m)
    shown: list[Measured | None] = [ours, same or fastest(pipelines)]
    return {
        f"{side.configuration.label}, M {side.configuration.microbatches}": side.spans
        for side in shown
        if side is not None and side.spans
    }


def chrome_trace(sides: Mapping[str, Sequence[Sequence[Span]]]) -> dict[str, Any]:
    """Return the trace of several sides; each begins at time 0.

    sides: name -> the spans of each of its workers. A `head` span ends with the broadcast of its
        error.
    """
    events: list[dict[str, Any]] = []
    for process, (side, rows) in enumerate(sides.items()):
        begin = min((span.start for row in rows for span in row), default=0.0)
        events.append(_named("process_name", process, 0, side))
        for thread, (row, name) in enumerate(zip(rows, row_names(rows), strict=True)):
            events.append(_named("thread_name", process, thread, name))
            events += _row(row, process, thread, begin)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def row_names(rows: Sequence[Sequence[Span]]) -> list[str]:
    """Return `block 1`, ... and `head`, or `head 1`, ..., of rows that compute the head alone."""
    heads = [bool(row) and row[0].what == "head" for row in rows]
    several = sum(heads) > 1
    names, counts = [], {True: 0, False: 0}
    for is_head in heads:
        counts[is_head] += 1
        number = f" {counts[is_head]}" if several or not is_head else ""
        names.append(f"{'head' if is_head else 'block'}{number}")
    return names


def _row(row: Sequence[Span], process: int, thread: int, begin: float) -> list[dict[str, Any]]:
    events = []
    free = begin
    place = {"pid": process, "tid": thread}
    for span in row:
        if span.start - free > _SHORTEST_WAIT_S:
            events.append(_complete("wait", free, span.start, begin) | place)
        where = {"step": span.step, "microbatch": span.microbatch}
        events.append(_complete(span.what, span.start, span.end, begin) | place | {"args": where})
        if span.what == "head":
            at = round(1e6 * (span.end - begin), 1)
            events.append({"name": "broadcast", "ph": "i", "s": "p", "ts": at} | place)
        free = max(free, span.end)
    return events


def _complete(name: str, start: float, end: float, begin: float) -> dict[str, Any]:
    times = {"ts": round(1e6 * (start - begin), 1), "dur": round(1e6 * (end - start), 1)}
    return {"name": name, "ph": "X", **times}


def _named(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
