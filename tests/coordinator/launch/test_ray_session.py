"""Runs of several threads that would each start a Ray take turns; no Ray is started here."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from coordinator.launch.ray_session import one_own_ray_at_a_time


def test_runs_of_several_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # the tests may share one already
    entered, inside, most = threading.Event(), 0, 0

    def run() -> None:
        nonlocal inside, most
        with one_own_ray_at_a_time():
            inside += 1
            most = max(most, inside)
            entered.wait(0.01)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        for run_ in [pool.submit(run) for _ in range(8)]:
            run_.result()
    assert most == 1
