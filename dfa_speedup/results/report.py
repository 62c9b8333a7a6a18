"""The figures of a comparison as plain data, for bench.json, tables and pictures."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from dfa_speedup.measured import Measured, Measurements
from dfa_speedup.peers import (
    COMPILED_ERRORCAST,
    DELAYED,
    ERRORCAST,
    LIMIT_BP,
    LIMIT_DFA,
    LIMIT_DFA_LOADED,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
)
from dfa_speedup.simulation.costs import mean_costs
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.prediction import Predictor
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Workload
from workers.machine.cpus import usable_cpus

NO_LINK = Link(0.0, float("inf"))  # one worker sends nothing
_BY_DFA = (ERRORCAST, COMPILED_ERRORCAST, ONE_PROCESS_DFA)
_FIGURES = (
    *("step_ms", "step_ms_low", "step_ms_high", "samples_per_s"),
    *("speedup", "speedup_low", "speedup_high", "efficiency"),
    *("bubble", "bytes_per_step", "peak_memory_mb"),
    *("samples_per_s_a_worker", "gflops_per_s_a_worker"),
)


def rows(workload: Workload, found: Measurements) -> list[dict[str, Any]]:
    """Return one row for each configuration, errorcast first.

    docs/reference/bench-files.md describes the keys.
    """
    return [
        _row(workload, found, side)
        | {"best": side is found.best(name), "predicted_ms": _predicted(workload, found, side)}
        for name in found.schedules()
        for side in found.sides
        if side.configuration.schedule == name
    ]


def _row(workload: Workload, found: Measurements, side: Measured) -> dict[str, Any]:
    name = side.configuration.schedule
    row: dict[str, Any] = {
        "schedule": name,
        "microbatches": side.configuration.microbatches,
        "virtual_stages": side.configuration.virtual_stages,
        "label": side.configuration.label,
        "reason": side.reason or (None if side.tried else "not measured: it was stopped before"),
        "failed": side.failed or None,
    }
    if row["reason"]:
        return row | dict.fromkeys(_FIGURES)
    step, step_low, step_high = middle(side.seconds)
    over, over_low, over_high = speedup(found, side)
    limit = found.limit(LIMIT_DFA if name in _BY_DFA else LIMIT_BP)
    flops = found.flops.get("dfa" if name in _BY_DFA else "bp")
    values = (
        round(1e3 * step, 3),
        round(1e3 * step_low, 3),
        round(1e3 * step_high, 3),
        round(workload.batch_size / step, 1),
        round(over, 4),
        round(over_low, 4),
        round(over_high, 4),
        _efficiency(limit, found.workers, over),
        round(median(side.bubbles), 4) if side.bubbles else None,
        side.bytes_per_step,
        round(side.peak_memory_mb, 1),
        round(workload.batch_size / step / found.workers, 1),
        None if flops is None else round(1e-9 * flops / step / found.workers, 4),
    )
    return row | dict(zip(_FIGURES, values, strict=True))


def _predicted(workload: Workload, found: Measurements, side: Measured) -> float | None:
    """Return milliseconds; None where the simulator cannot say, or workers outnumber the cores."""
    measured = found.costs.get(side.configuration.microbatches)
    link = NO_LINK if found.workers == 1 else found.link
    if side.reason or not measured or link is None or found.workers > usable_cpus():
        return None
    predictor = Predictor(workload, mean_costs(measured), link, found.workers)
    seconds = predictor.side(side.configuration, side.shape or Shape(found.workers))
    return None if seconds is None else round(1e3 * seconds, 3)


def speedup(found: Measurements, side: Measured) -> tuple[float, float, float]:
    """Return a side's step over errorcast's best, and the quartiles of that.

    Of the rounds; without rounds, of the fastest steps of the first trials, without quartiles.
    """
    ours = found.ours()
    if side is ours:
        return 1.0, 1.0, 1.0
    return middle(side.ratios or [min(side.tried) / min(ours.tried)])


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and both quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return median(values), low, high


def summary(workload: Workload, found: Measurements) -> dict[str, Any]:
    """Return the figures of the comparison as a whole."""
    workers, best = found.workers, found.best_pipeline()
    dfa, loaded, bp = (found.limit(name) for name in (LIMIT_DFA, LIMIT_DFA_LOADED, LIMIT_BP))
    ours, delayed = found.ours(), found.best(DELAYED)
    shape = ours.shape or Shape(workers)
    one, one_dfa = found.best(ONE_PROCESS), found.best(ONE_PROCESS_DFA)
    return {
        "batch_size": workload.batch_size,
        "layers": len(workload.model.layers),
        "parameters": workload.profile.parameters,
        "precision": workload.rule.precision,
        "optimizer": workload.rule.optimizer.name,
        "workers": workers,
        "blocks": shape.blocks,
        "head": shape.head,
        "heads": shape.heads,
        "limit_ms": _limit_ms(dfa, workers),
        "limit_loaded_ms": _limit_ms(loaded, workers),
        "limit_backpropagation_ms": _limit_ms(bp, workers),
        "efficiency": _efficiency(dfa, workers),
        "efficiency_loaded": _efficiency(loaded, workers),
        "best_pipeline": best.configuration.label if best else None,
        "speedup_over_best_pipeline": _of(found, best),
        "speedup_over_delayed_backpropagation": _of(found, delayed if delayed.ratios else None),
        "speedup_of_dfa_in_one_process": (
            round(speedup(found, one)[0] / speedup(found, one_dfa)[0], 4)
            if one.tried and one_dfa.tried
            else None
        ),
    } | ({} if found.link is None else _link(found.link))


def _of(found: Measurements, side: Measured | None) -> float | None:
    return None if side is None else round(speedup(found, side)[0], 4)


def _link(link: Link) -> dict[str, float]:
    return {
        "link_latency_us": round(1e6 * link.latency_s, 1),
        "link_gbit_per_s": round(8e-9 * link.bytes_per_s, 1),
    }


def _limit_ms(limit: Measured, blocks: int) -> float | None:
    return round(1e3 * median(limit.seconds) / blocks, 3) if limit.seconds else None


def _efficiency(limit: Measured, blocks: int, over: float = 1.0) -> float | None:
    """Return compute alone / K / step; None where one process could not hold the whole model.

    over: the side's step over errorcast's; the limit was compared with errorcast's.
    """
    return round(median(limit.ratios) / blocks / over, 4) if limit.ratios else None
