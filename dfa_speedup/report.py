"""What a comparison comes to, as plain data: bench.json, and what tables and pictures show."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from dfa_speedup.case import Case
from dfa_speedup.compare import Comparison, Measured
from dfa_speedup.peers import (
    ERRORCAST,
    LIMIT_BP,
    LIMIT_DFA,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    PEERS,
    PIPELINES,
)

_BY_DFA = (ERRORCAST, ONE_PROCESS_DFA)


def rows(case: Case, comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row a configuration, errorcast first; its keys are described in docs/bench.md."""
    ours = comparison.best(ERRORCAST)
    limits = {name: _limit(comparison, name) for name in (LIMIT_DFA, LIMIT_BP)}
    blocks = comparison.blocks
    return [
        _row(case, side, ours, limits[LIMIT_DFA if name in _BY_DFA else LIMIT_BP] / blocks)
        | {"best": side is comparison.best(name), "predicted_ms": _predicted(comparison, side)}
        for name in (ERRORCAST, *PEERS, ONE_PROCESS_DFA)
        for side in comparison.measured
        if side.configuration.schedule == name
    ]


def _row(case: Case, side: Measured, ours: Measured, limit: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "schedule": side.configuration.schedule,
        "microbatches": side.configuration.microbatches,
        "reason": side.reason or None,
    }
    names = ("step_ms", "step_ms_low", "step_ms_high", "samples_per_s", "speedup", "efficiency")
    if side.reason or not side.rounds:
        return found | dict.fromkeys((*names, "bubble", "bytes_per_step", "peak_memory_mb"))
    step = median(side.seconds)
    low, _, high = quantiles(side.seconds, n=4) if len(side.seconds) > 1 else [step] * 3
    values = (
        round(1e3 * step, 3),
        round(1e3 * low, 3),
        round(1e3 * high, 3),
        round(case.batch_size / step, 1),
        round(speedup(ours, side), 4),
        round(limit / step, 4),
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
    if side.reason or comparison.blocks > (os.cpu_count() or 1):
        return None
    seconds = comparison.predicted(side.configuration)
    return None if seconds is None else round(1e3 * seconds, 3)


def speedup(ours: Measured, other: Measured) -> float:
    """Return how many times as fast `ours` is: the median of the rounds' own ratios."""
    rounds = range(min(len(ours.rounds), len(other.rounds)))
    return median(other.median(i) / ours.median(i) for i in rounds)


def _limit(comparison: Comparison, name: str) -> float:
    """Return the seconds of computing alone, at errorcast's best number of microbatches."""
    m = comparison.best(ERRORCAST).configuration.microbatches
    return next(
        median(side.seconds)
        for side in comparison.measured
        if side.configuration.schedule == name and side.configuration.microbatches == m
    )


def summary(case: Case, comparison: Comparison) -> dict[str, Any]:
    """Return the figures that are not of one configuration."""
    ours = comparison.best(ERRORCAST)
    dfa, bp = _limit(comparison, LIMIT_DFA), _limit(comparison, LIMIT_BP)
    loaded = median(s for steps in comparison.loaded for s in steps)
    pipelines = [comparison.best(name) for name in PIPELINES]
    ran = [side for side in pipelines if side.rounds and not side.reason]
    best = min(ran, key=lambda side: median(side.seconds), default=None)
    one, one_dfa = comparison.best(ONE_PROCESS), comparison.best(ONE_PROCESS_DFA)
    found = {
        "limit_ms": round(1e3 * dfa / comparison.blocks, 3),
        "limit_loaded_ms": round(1e3 * loaded / comparison.blocks, 3),
        "limit_backpropagation_ms": round(1e3 * bp / comparison.blocks, 3),
        "efficiency": round(dfa / comparison.blocks / median(ours.seconds), 4),
        "efficiency_loaded": round(
            median(
                median(limit) / comparison.blocks / ours.median(i)
                for i, limit in enumerate(comparison.loaded)
            ),
            4,
        ),
        "best_pipeline": best.configuration.schedule if best else None,
        "speedup_over_best_pipeline": round(speedup(ours, best), 4) if best else None,
        "speedup_of_dfa_in_one_process": round(speedup(one_dfa, one), 4),
    }
    return found | {"batch_size": case.batch_size, "blocks": comparison.blocks}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("torch", "ray", "numpy", "errorcast")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
