"""The summary of a run: what result.json and the terminal show of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from coordinator.engine.base import Engine
from coordinator.runs.state import RunState
from coordinator.training.recovery import Recovery


def summary(
    state: RunState, start: int, finished: bool, seconds: float, scores: Mapping[str, float]
) -> dict[str, Any]:
    """Return where a run is, and its scores; start: the step that it began at this time."""
    return {
        "steps": state.step,
        "finished": finished,
        "best": asdict(state.best) if state.best else None,
        "seconds": round(seconds, 3),
        "steps_this_time": state.step - start,
        "metrics": scores,
    }


def speed(step_s: float, batch_size: int) -> dict[str, Any]:
    """Return how fast its steps were; step_s: the median one's seconds."""
    return {
        "step_ms": round(step_s * 1e3, 4),
        "samples_per_s": round(batch_size / step_s, 1) if step_s else 0.0,
    }


def costs(engine: Engine, recovery: Recovery, seconds: float) -> dict[str, Any]:
    """Return what the processes did, and what faults, snapshots and data took of the time."""
    taken, share = engine.snapshot_cost()
    waited = engine.waited_for_data()
    return {
        "processes": engine.report(),
        "faults": {
            "recovered": recovery.faults,
            "seconds_lost": round(recovery.seconds_lost, 3),
            "steps_repeated": recovery.steps_repeated,
        },
        "snapshots": {"taken": taken, "share_of_step": round(share, 5)},
        "data": {"waited_s": round(waited, 3), "share": round(waited / seconds, 4)},
    }
