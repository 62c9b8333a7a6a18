"""What tests read of a run: its weights, its losses and its events."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import safetensors.torch

from coordinator.training.events import Event, Progress, RolledBack, Warned


def weights(path: Path) -> dict[str, bytes]:
    """Return the exact bits of each tensor of a run's model, or of a model file."""
    file = path / "model.safetensors" if path.is_dir() else path
    return {k: v.numpy().tobytes() for k, v in safetensors.torch.load_file(file).items()}


def losses(run_dir: Path) -> dict[int, float]:
    """Return the logged loss of each step, which is logged once."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    found = {line["step"]: line["loss"] for line in logged}
    assert len(found) == len(logged), "a step is logged twice"
    return found


def wait_for_line(metrics: Path, kind: str, run: subprocess.Popen[str] | None = None) -> None:
    """Wait until a run has written a line of this kind."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert run is None or run.poll() is None, run and run.communicate()
        if metrics.exists() and f'"kind": "{kind}"' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.05)  # a file does not notify of its growth
    pytest.fail(f"no {kind} line in {metrics}")


class Listener:
    """A viewer that keeps the events it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def progress(self, progress: Progress) -> None:
        pass

    def messages(self, kind: type[Warned | RolledBack]) -> list[str]:
        return [event.message for event in self.events if isinstance(event, kind)]
