"""Runs a real job under faults, and compares it with an undisturbed run.

A seed draws when processes are killed or stopped, and which. A fault strikes a moment after the run
reaches a drawn step; one in eight strikes during the recovery from the fault before it.
"""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import safetensors.torch
import torch

from coordinator.job.spec import Settings
from coordinator.launch.train import Run, Viewer, train
from coordinator.training.events import (
    Event,
    FaultSeen,
    Progress,
    Recovered,
    Warned,
    WorkersStarted,
)
from workers.grid import Grid

_MOMENT_S = 1.0  # a fault strikes within this time after its step
_AGAIN_S = 4.0  # the same, for a fault during a recovery
COORDINATOR = 0


@dataclass
class Fault:
    """One fault: what is done to which process, at which step, and its result.

    victim: a worker from 1, or the coordinator; at once: without waiting for new steps.
    victim_name: of the process that was struck, e.g. "block 2".
    recovered_s: seconds from the fault to the next step done; None before that.
    """

    action: str
    victim: int
    step: int
    delay_s: float
    at_once: bool = False
    process: int = 0
    victim_name: str = ""
    struck_at: float | None = None
    recovered_s: float | None = None
    repeated: int = 0


@dataclass(frozen=True)
class Outcome:
    """The result of a run under faults, compared with an undisturbed one."""

    faults: list[Fault]
    same_weights: bool
    same_losses: bool
    seconds: float
    seconds_undisturbed: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers, and whether weights and losses are the same."""
        struck = [s for s in self.faults if s.struck_at is not None]
        times = [s.recovered_s for s in struck if s.recovered_s is not None]
        return {
            "faults": len(struck),
            "planned": len(self.faults),
            "recoveries": len(times),
            "recovery_s": {"median": median(times), "longest": max(times)} if times else None,
            "seconds_lost": round(self.seconds - self.seconds_undisturbed, 1),
            "steps_repeated": sum(s.repeated for s in struck),
            "same_weights": self.same_weights,
            "same_losses": self.same_losses,
        }


def draw(
    seed: int, kills: int, stops: int, workers: int, steps: int, coordinator: bool = True
) -> list[Fault]:
    """Draw the faults of a run of `steps` steps, in order."""
    rng = random.Random(seed)  # noqa: S311
    actions = ["kill"] * kills + ["stop"] * stops
    rng.shuffle(actions)
    at = sorted(rng.randrange(1, max(2, steps * 9 // 10)) for _ in actions)
    faults: list[Fault] = []
    for action, step in zip(actions, at, strict=True):
        again = bool(faults) and not faults[-1].at_once and rng.random() < 0.125
        delay_s = rng.uniform(0, _AGAIN_S if again else _MOMENT_S)
        victim = rng.randrange(COORDINATOR if coordinator else 1, workers + 1)
        faults.append(Fault(action, victim, step, delay_s, again))
    return faults


@dataclass
class FaultInjector:
    """A viewer that kills and stops processes of the run it watches.

    grid: of the run's workers.
    """

    faults: Sequence[Fault]
    stop_s: float
    grid: Grid
    report: Callable[[str], None] = lambda _: None
    _processes: list[int] = field(default_factory=list)
    _due: list[Fault] = field(default_factory=list)
    _next: int = 0
    _timers: list[threading.Timer] = field(default_factory=list)
    _stopped: list[int] = field(default_factory=list)

    def event(self, event: Event) -> None:
        """Note the present processes, and the end of a recovery."""
        if isinstance(event, WorkersStarted):
            self._processes = [event.coordinator, *event.processes]
        elif isinstance(event, Recovered):
            self._note_recovered(monotonic(), event.repeated)
        if isinstance(event, FaultSeen | Recovered | Warned):
            self.report(event.message)

    def progress(self, progress: Progress) -> None:
        """Strike when the step is reached and nothing is being recovered."""
        if not self._due and self._next < len(self.faults):
            fault = self.faults[self._next]
            if progress.step >= fault.step:
                self._arm(fault)

    def close(self) -> None:
        """Cancel the faults that are due, and let stopped processes continue."""
        for timer in self._timers:
            timer.cancel()
        for process in self._stopped:
            _signal(process, signal.SIGCONT)

    def _note_recovered(self, now: float, repeated: int) -> None:
        over = [fault for fault in self._due if fault.struck_at is not None]
        for fault in over:
            fault.recovered_s = now - (fault.struck_at or now)
            self._due.remove(fault)
        if over:
            over[0].repeated = repeated

    def _arm(self, fault: Fault) -> None:
        self._next += 1
        self._due.append(fault)
        self._after(fault.delay_s, lambda: self._inject(fault))

    def _inject(self, fault: Fault) -> None:
        number = signal.SIGKILL if fault.action == "kill" else signal.SIGSTOP
        ranks = range(len(self._processes))
        for victim in [*ranks[fault.victim :], *ranks[: fault.victim]]:
            if _signal(self._processes[victim], number):
                break
        else:  # all are dead, and no new one is up yet
            self._after(_MOMENT_S / 4, lambda: self._inject(fault))
            return
        fault.victim, fault.process = victim, self._processes[victim]
        fault.victim_name = self.grid.label(victim) if victim else "coordinator"
        fault.struck_at = monotonic()
        self.report(f"{fault.action} {fault.victim_name} (process {fault.process})")
        if number == signal.SIGSTOP:
            self._stopped.append(fault.process)
            self._after(self.stop_s, lambda: _signal(fault.process, signal.SIGCONT))
        if self._next < len(self.faults) and self.faults[self._next].at_once:
            self._arm(self.faults[self._next])

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()


def _signal(process: int, number: int) -> bool:
    """Send a signal to a process of Ray; return whether it exists."""
    with contextlib.suppress(OSError):
        if "ray::" in Path(f"/proc/{process}/cmdline").read_text():
            os.kill(process, number)
            return True
    return False


def run_under_faults(
    task: str,
    settings: Settings,
    folder: Path,
    kills: int,
    stops: int,
    seed: int,
    stop_s: float,
    report: Callable[[str], None],
    undisturbed: tuple[Run, float] | None = None,
) -> Outcome:
    """Train a task twice, undisturbed and under faults, and compare the two.

    folder: where both run folders go.
    stop_s: seconds after which a stopped process continues.
    report: called with one line per phase, fault and recovery.
    undisturbed: an undisturbed run of the same job and its seconds, if there is one already.

    Raises JobError for a job that cannot run, TrainingFailed when the faults ended it.
    """
    if undisturbed is None:
        report("training without faults")
        undisturbed = _timed(task, settings, folder / "alone")
    run, seconds_undisturbed = undisturbed
    grid, steps = run.job.grid, int(run.summary["steps"])
    injector = FaultInjector(draw(seed, kills, stops, len(grid), steps), stop_s, grid, report)
    report("training under faults")
    try:
        struck, seconds = _timed(task, settings, folder / "faults", injector)
    finally:
        injector.close()
    return Outcome(
        list(injector.faults),
        _weights(run) == _weights(struck),
        _losses(run) == _losses(struck),
        seconds,
        seconds_undisturbed,
    )


def _timed(
    task: str, settings: Settings, folder: Path, viewer: Viewer | None = None
) -> tuple[Run, float]:
    began = monotonic()
    run = train(task, run_dir=folder, viewer=viewer, **settings)
    if not run.summary["finished"]:  # stopped: there is nothing to compare
        raise KeyboardInterrupt
    return run, monotonic() - began


def _weights(run: Run) -> dict[str, tuple[str, bytes]]:
    """Return type and exact bits of every weight; the file's own bytes depend on a hash's order."""
    tensors = safetensors.torch.load_file(run.folder / "model.safetensors")
    bits = {name: t.reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in tensors.items()}
    return {name: (str(t.dtype), bits[name]) for name, t in tensors.items()}


def _losses(run: Run) -> list[dict[str, Any]]:
    """Return every logged line without its speed."""
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in run.curves]
