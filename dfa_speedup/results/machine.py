"""The machine of a comparison, and the versions that it ran with."""

import platform
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
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
