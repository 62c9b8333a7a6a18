"""How much a run computes a second: tokens, floating-point operations, share of the peak."""

from collections.abc import Mapping
from typing import Any

from coordinator.engine.plan import Plan
from coordinator.job.settings import JobSettings
from dfa_speedup.results.peak import mfu
from workers.gpu import Gpu


def throughput(
    plan: Plan, settings: JobSettings, summary: Mapping[str, Any], gpu: Gpu | None
) -> dict[str, Any]:
    """Return tokens and operations a second, each only where it is known.

    summary: of the run, with the milliseconds of a step. gpu: a worker's.

    The operations are those that the job's method needs: with `dfa` no gradient passes between
    layers. `mfu` is the share of the peak of the GPUs of all workers.
    """
    step_s = 1e-3 * float(summary["step_ms"])
    if not step_s:
        return {}
    found: dict[str, Any] = {}
    if plan.tokens:
        found["tokens_per_s"] = round(settings.batch_size * plan.tokens / step_s, 1)
    if plan.flops:
        each = 1e-9 * plan.flops / step_s / len(plan.grid)
        found["gflops_per_s"] = round(each * len(plan.grid), 3)
        share = mfu(each, gpu.name if gpu else None, settings.precision)
        if share is not None:
            found["mfu"] = share
    return found
