"""The peak memory of this process, or of its GPU."""

import ctypes
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


def reset_peak() -> float:
    """Restart the measurement; return what is in use now, MB."""
    ctypes.CDLL(None).malloc_trim(0)  # gives back what an earlier measurement freed
    _RESET_PEAK.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return peak_mb()


def peak_mb() -> float:
    """Return the peak since reset_peak(), MB: resident memory, or the GPU's where one is used."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
