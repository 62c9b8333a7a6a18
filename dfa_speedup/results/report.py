"""The figures of a comparison as plain data, for bench.json, tables and pictures."""

import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from dfa_speedup.comparison import NO_LINK, Comparison, Measured
from dfa_speedup.peers import (
    ERRORCAST,
    LIMIT_BP,
    LIMIT_DFA,
    LIMIT_DFA_LOADED,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    OWN,
    PEERS,
)
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Workload
from workers.machine.cpus import usable_cpus

_BY_DFA = (ERRORCAST, ONE_PROCESS_DFA)


def rows(workload: Workload, comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row for each configuration, errorcast first; docs/bench.md describes the keys."""
    return [
        _row(workload, comparison, side)
        | {"best": side is comparison.best(name), "predicted_ms": _predicted(comparison, side)}
        for name in (*OWN, *PEERS, ONE_PROCESS_DFA)
        for side in comparison.measured
        if side.configuration.schedule == name
    ]


def _row(workload: Workload, comparison: Comparison, side: Measured) -> dict[str, Any]:
    name = side.configuration.schedule
    found: dict[str, Any] = {
        "schedule": name,
        "microbatches": side.configuration.microbatches,
        "virtual_stages": side.configuration.virtual_stages,
        "label": side.configuration.label,
        "reason": side.reason or None,
        "failed": side.failed or None,
    }
    names = ("step_ms", "step_ms_low", "step_ms_high", "samples_per_s", "speedup", "efficiency")
    if side.reason or not side.tried:
        return found | dict.fromkeys((*names, "bubble", "bytes_per_step", "peak_memory_mb"))
    step = median(side.seconds)
    low, _, high = quantiles(side.seconds, n=4) if len(side.seconds) > 1 else [step] * 3
    over = speedup(comparison, side)
    limit = comparison.limits[LIMIT_DFA if name in _BY_DFA else LIMIT_BP]
    values = (
        round(1e3 * step, 3),
        round(1e3 * low, 3),
        round(1e3 * high, 3),
        round(workload.batch_size / step, 1),
        round(over, 4),
        _efficiency(limit, comparison.workers, over),
    )
    return (
        found
        | dict(zip(names, values, strict=True))
        | {
            "bubble": round(median(side.bubbles), 4) if side.bubbles else None,
            "bytes_per_step": side.bytes_per_step,
            "peak_memory_mb": round(side.peak_memory_mb, 1),
        }
    )


def _predicted(comparison: Comparison, side: Measured) -> float | None:
    """Return milliseconds; None where the simulator cannot say, or workers outnumber the cores."""
    if side.reason or comparison.workers > usable_cpus():
        return None
    seconds = comparison.predicted(side)
    return None if seconds is None else round(1e3 * seconds, 3)


def speedup(comparison: Comparison, side: Measured) -> float:
    """Return a side's step over errorcast's best, from the rounds or else from the first trials."""
    ours = comparison.best(ERRORCAST)
    if side is ours:
        return 1.0
    return median(side.ratios) if side.ratios else min(side.tried) / min(ours.tried)


def summary(workload: Workload, comparison: Comparison) -> dict[str, Any]:
    """Return the figures of the comparison as a whole."""
    workers, limits, best = comparison.workers, comparison.limits, comparison.best_pipeline()
    shape = comparison.best(ERRORCAST).shape or Shape(workers)
    one, one_dfa = comparison.best(ONE_PROCESS), comparison.best(ONE_PROCESS_DFA)
    return {
        "batch_size": workload.batch_size,
        "workers": workers,
        "blocks": shape.blocks,
        "head": shape.head,
        "heads": shape.heads,
        "stopped": comparison.stopped and (str(comparison.stopped) or "interrupted"),
        "limit_ms": _limit_ms(limits[LIMIT_DFA], workers),
        "limit_loaded_ms": _limit_ms(limits[LIMIT_DFA_LOADED], workers),
        "limit_backpropagation_ms": _limit_ms(limits[LIMIT_BP], workers),
        "efficiency": _efficiency(limits[LIMIT_DFA], workers),
        "efficiency_loaded": _efficiency(limits[LIMIT_DFA_LOADED], workers),
        "best_pipeline": best.configuration.label if best else None,
        "speedup_over_best_pipeline": round(median(best.ratios), 4) if best else None,
        "speedup_of_dfa_in_one_process": (
            None
            if one.reason or one_dfa.reason
            else round(speedup(comparison, one) / speedup(comparison, one_dfa), 4)
        ),
    } | ({} if comparison.link == NO_LINK else _link(comparison.link))


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


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("torch", "ray", "numpy", "errorcast")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": usable_cpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
