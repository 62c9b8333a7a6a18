"""The machine of a comparison, and the versions that it ran with."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workers.machine.cpus import usable_cpus


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("torch", "ray", "numpy", "errorcast")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": usable_cpus(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _gpus() -> list[str]:
    """Return name, memory and power limit of each GPU of this machine, as its driver gives them."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    asked = ("--query-gpu=name,memory.total,power.limit", "--format=csv,noheader")
    found = subprocess.run(  # noqa: S603  # nothing of the user's is in it
        [command, *asked], capture_output=True, text=True, check=False
    )
    return found.stdout.strip().splitlines() if found.returncode == 0 else []
