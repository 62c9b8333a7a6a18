"""Fifty recoveries in one job leak no memory, no file descriptor and no thread."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from coordinator import train
from coordinator.training.events import Event, Progress, Recovered, WorkersStarted

RECOVERIES = 50


class KillsBlock1:
    """Kills the worker of block 1 whenever the job has gone on; measures those that live on."""

    def __init__(self) -> None:
        self.killed = 0
        self.samples: list[dict[str, tuple[int, int, int]]] = []
        self._processes: list[int] = []
        self._coordinator = 0
        self._killed_at = 0

    def event(self, event: Event) -> None:
        if isinstance(event, WorkersStarted):
            self._processes, self._coordinator = list(event.processes), event.coordinator
        if isinstance(event, Recovered):
            self.samples.append(
                {
                    "coordinator": self._usage(self._coordinator),
                    "block 2": self._usage(self._processes[1]),
                }
            )

    def progress(self, progress: Progress) -> None:
        if progress.step > self._killed_at and self.killed < RECOVERIES and self._processes:
            self.killed += 1
            self._killed_at = progress.step
            os.kill(self._processes[0], signal.SIGKILL)
            self._processes = []

    @staticmethod
    def _usage(pid: int) -> tuple[int, int, int]:
        process = psutil.Process(pid)
        return process.memory_info().rss >> 20, process.num_fds(), process.num_threads()


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_fifty_recoveries_leak_nothing(a_ray: None, tmp_path: Path) -> None:
    viewer = KillsBlock1()
    run = train("digits", epochs=800, log_every=1000, run_dir=tmp_path / "run", viewer=viewer)
    assert viewer.killed == RECOVERIES
    assert run.summary["faults"]["recovered"] == RECOVERIES
    early, late = viewer.samples[4], viewer.samples[-1]  # caches are warm after five
    for who, (memory, files, threads) in late.items():
        memory_before, files_before, threads_before = early[who]
        assert memory < memory_before + 25, f"{who}: {memory_before} MB became {memory} MB"
        assert files <= files_before + 3, f"{who}: {files_before} descriptors became {files}"
        assert threads <= threads_before + 3, f"{who}: {threads_before} threads became {threads}"
