"""The most that a GPU computes, for the share of it that a side uses (MFU)."""

from collections.abc import Mapping
from typing import Any

# 10^12 floating-point operations a second without sparsity, from NVIDIA's data sheets; fp32 is
# without TF32, which torch does not use for products unless told to
_PEAKS: Mapping[str, Mapping[str, float]] = {
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "H100 PCIe": {"bf16": 756.0, "fp32": 51.2},
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp32": 19.5},
}


def mfu(row: Mapping[str, Any], machine: Mapping[str, Any], precision: str) -> float | None:
    """Return the share of its GPU's peak that each worker of a side uses; None where not known.

    row: of bench.json.
    """
    used, gpus = row["gflops_per_s_a_worker"], machine["gpus"]
    known = [peaks for name, peaks in _PEAKS.items() if gpus and name in gpus[0]]
    return None if used is None or not known else round(1e-3 * used / known[0][precision], 4)
