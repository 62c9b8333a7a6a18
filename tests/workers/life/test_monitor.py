"""What counts as hung, and what only works: processes that are stopped, busy, or slow."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic, sleep
from typing import Any

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle

from workers.life import monitor
from workers.life.monitor import Monitor
from workers.life.sign import RunningClock, Sign, computes, of_thread

TIMEOUT_S = 1.0


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0.1, 10))
def test_a_clock_counts_no_time_in_which_its_process_did_not_run(
    gaps: list[float], longest: float
) -> None:
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    ticks = iter(times)
    clock = RunningClock(longest, lambda: next(ticks))
    expected = sum(min(after - before, longest) for before, after in pairwise(times))
    assert [clock.now() for _ in gaps][-1:] == pytest.approx([expected] * bool(gaps))


@pytest.fixture
def python() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts Python processes, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        assert started[-1].stdout
        started[-1].stdout.readline()  # it has begun
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.blocks
def test_a_process_that_holds_pythons_lock_computes_and_a_stopped_one_does_not(
    python: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    busy = python("print(flush=True); sum(range(10**12))")
    assert computes(busy.pid)
    busy.send_signal(signal.SIGSTOP)
    assert not computes(busy.pid)
    idle = python("print(flush=True); import time; time.sleep(100)")
    assert not computes(idle.pid)
    assert not computes(2**30)


@pytest.mark.blocks
def test_a_thread_that_sleeps_waits_and_one_that_computes_does_not() -> None:
    ends = threading.Event()

    def compute() -> None:
        while not ends.is_set():
            torch.ones(300, 300).exp()

    threads = [threading.Thread(target=compute), threading.Thread(target=ends.wait)]
    for thread in threads:
        thread.start()
    busy, idle = list[Sign](), list[Sign]()
    for _ in range(20):
        sleep(0.02)
        busy.append(of_thread(threads[0].native_id or 0))
        idle.append(of_thread(threads[1].native_id or 0))
    ends.set()
    assert not all(sign.waits for sign in busy)
    assert busy[-1].moved > busy[0].moved
    assert set(idle) == {Sign(idle[0].moved, waits=True)}
    assert of_thread(0) == Sign(0, waits=False)


class Patient:
    """A worker's process: sign() answers on a thread of its own."""

    def __init__(self) -> None:
        self.moved = 0

    def process(self) -> tuple[int, str]:
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def sleeps(self, seconds: float) -> None:
        sleep(seconds)

    def holds_pythons_lock(self, seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            sum(range(2 * 10**7))  # which lets no other thread run

    @ray.method(concurrency_group="life")
    def sign(self) -> Sign:
        return Sign(self.moved, waits=True)


@dataclass(frozen=True)
class Started:
    actor: Any
    process: int
    node: str


@pytest.fixture(scope="module")
def patient(a_ray: None) -> Iterator[Started]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actor = ray.remote(num_cpus=0, concurrency_groups={"life": 1})(Patient).remote()
    yield Started(actor, *ray.get(actor.process.remote()))
    ray.kill(actor)


def hung_after(worker: Started, call: Any) -> float | None:
    """Wait for a call under a monitor; return the seconds after which its worker counts as hung."""
    monitor, began = Monitor({1: worker}, TIMEOUT_S), monotonic()
    while not ray.wait([call], timeout=monitor.period_s)[0]:
        monitor.look()
        if monitor.hung():
            return monotonic() - began
    return None


@pytest.mark.parametrize("work", ["sleeps", "holds_pythons_lock"])
def test_work_may_take_longer_than_silence(patient: Started, work: str) -> None:
    assert hung_after(patient, getattr(patient.actor, work).remote(3 * TIMEOUT_S)) is None


def test_an_answer_that_comes_while_the_process_is_looked_at_counts(
    patient: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, looks = Monitor({1: patient}, TIMEOUT_S), list[bool]()

    def answers_meanwhile(_: object) -> bool:
        os.kill(patient.process, signal.SIGCONT)
        looks.append(bool(ray.wait(list(watch._asked.values()), timeout=30)[0]))
        return False  # it computes no more

    monkeypatch.setattr(monitor, "_computes", answers_meanwhile)
    os.kill(patient.process, signal.SIGSTOP)  # silent for as long as nobody looks at it
    try:
        while not looks:
            watch.look()
            assert watch.hung() == []
            sleep(watch.period_s)
    finally:
        os.kill(patient.process, signal.SIGCONT)
    assert looks == [True]


def test_a_stopped_process_hangs(patient: Started) -> None:
    call = patient.actor.sleeps.remote(0.1)
    os.kill(patient.process, signal.SIGSTOP)
    try:
        seconds = hung_after(patient, call)
        assert seconds is not None
        assert TIMEOUT_S <= seconds < 6 * TIMEOUT_S
    finally:
        os.kill(patient.process, signal.SIGCONT)
    ray.get(call)


def test_all_wait_and_nothing_moves(patient: Started) -> None:
    """A lost message: everyone answers, and nobody can go on."""
    monitor, began, answers = Monitor({1: patient}, TIMEOUT_S), monotonic(), 0
    while not monitor.still(lambda sign: sign.moved if sign.waits else None):
        monitor.look()
        sleep(monitor.period_s)
        if monotonic() - began < 2 * TIMEOUT_S:  # until then bytes move
            answers += 1
            assert not monitor.still(lambda _, n=answers: n)
    assert not monitor.hung()
    assert 2 * TIMEOUT_S < monotonic() - began < 6 * TIMEOUT_S
