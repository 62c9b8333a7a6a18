"""The most that a GPU computes, for the share of it that a side uses (MFU)."""

from collections.abc import Mapping

# 10^12 floating-point operations a second without sparsity, from NVIDIA's data sheets; fp32 is
# without TF32, which torch does not use for products unless asked to
_PEAKS: Mapping[str, Mapping[str, float]] = {
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "H100 PCIe": {"bf16": 756.0, "fp32": 51.2},
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "A100": {"bf16": 312.0, "fp32": 19.5},
}


def mfu(gflops_per_s: float | None, gpu: str | None, precision: str) -> float | None:
    """Return the share of a GPU's peak that is used; None where either is not known.

    gflops_per_s: 10^9 floating-point operations a second. gpu: the name of its model.
    """
    known = [peaks for name, peaks in _PEAKS.items() if gpu and name in gpu]
    if gflops_per_s is None or not known:
        return None
    return round(1e-3 * gflops_per_s / known[0][precision], 4)
