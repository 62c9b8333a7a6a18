"""A service killed at any moment: no job is lost or run twice, no watcher misses an event."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import JOB_STATE_RUNNING, JOB_STATE_SUCCEEDED
from support.running import (
    QUICK,
    Running,
    end_ray,
    events_to_end,
    serving,
    start,
    states_of,
    stop,
    until_cluster,
    wait_for,
    weights,
)

from coordinator import train
from coordinator.client import Client
from coordinator.service.processes import own_ray

STEPS_AN_EPOCH = 22


class Watcher(threading.Thread):
    """Follows a job from its first event to its last, through every lost connection."""

    def __init__(self, address: str, job_id: str) -> None:
        super().__init__(daemon=True)
        self._address, self._job_id = address, job_id
        self.events: list[Event] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with Client(self._address) as client:
                for news in client.watch(self._job_id):
                    if isinstance(news, Event):
                        self.events.append(news)
        except Exception as error:
            self.failure = error


@pytest.mark.timeout(900)
@pytest.mark.parametrize("jobs", [2, pytest.param(5, marks=pytest.mark.endurance)])
def test_killed_four_times_during_each_job(tmp_path: Path, a_ray: None, jobs: int) -> None:
    rng = random.Random(7)
    job: dict[str, Any] = {**QUICK, "epochs": 30}
    state, flags = tmp_path / "state", ("--cpus", "4")
    running = start(state, *flags)
    try:
        until_cluster(running.address)
        address, watchers, ids = running.address, [], []
        for number in range(4 * jobs):
            if number % 4 == 0:
                with Client(address) as client:
                    made = client.submit(
                        **job, seed=number, blocks=2, request_id=f"job-{number:04d}"
                    )
                ids.append(made.id)
                watchers += [Watcher(address, made.id), Watcher(address, made.id)]
                for watcher in watchers[-2:]:
                    watcher.start()
            time.sleep(rng.uniform(0.0, 3.0))  # a random moment is what is tested
            running.kill()
            running = start(state, *flags, listen=address)
            with Client(address) as client:  # the client could not know that it was taken
                again = client.submit(
                    **job,
                    seed=number - number % 4,
                    blocks=2,
                    request_id=f"job-{number - number % 4:04d}",
                )
                assert again.id == ids[-1]
        for watcher in watchers:
            watcher.join(600)
            assert watcher.failure is None
            numbers = [event.number for event in watcher.events]
            assert numbers == list(range(1, len(numbers) + 1))
            steps = [e.metrics.step for e in watcher.events if e.HasField("metrics")]
            assert steps == list(range(1, 30 * STEPS_AN_EPOCH + 1))
        with Client(address) as client:
            listed = list(client.jobs())
            assert [job.id for job in listed] == ids[::-1]
            assert [(job.state, job.starts) for job in listed] == [(JOB_STATE_SUCCEEDED, 1)] * jobs
            client.download(ids[0], tmp_path / "model.safetensors")
    finally:
        stop(running)
    alone = train(**job, seed=0, blocks=2, run_dir=tmp_path / "alone")
    assert weights(tmp_path / "model.safetensors") == weights(alone.folder / "model.safetensors")


def ray_of(state: Path) -> int:
    own = own_ray.find(state)
    assert own is not None
    return own.process


def kill_actors(running: Running) -> None:
    """Kill the training actor that runs, and the one that waits for a job."""
    for process in psutil.Process(ray_of(running.state)).children(recursive=True):
        if "TrainingWork" in " ".join(process.cmdline()):
            process.kill()


@pytest.mark.timeout(300)
def test_a_killed_training_actor_or_cluster_costs_no_job(tmp_path: Path, a_ray: None) -> None:
    with serving(tmp_path / "state", "--cpus", "2") as running, running.client() as client:
        until_cluster(running.address)
        made = client.submit(**{**QUICK, "epochs": 60}, checkpoint={"every_steps": 5})
        wait_for(client, made.id, "checkpoint")
        kill_actors(running)
        events = []
        for news in client.watch(made.id):
            if isinstance(news, Event):
                events.append(news)
                if states_of(events).count(JOB_STATE_RUNNING) == 2:
                    break
        end_ray(running.state)  # the whole cluster
        steps = [e.metrics.step for e in events_to_end(client, made.id) if e.HasField("metrics")]
        assert steps == list(range(1, 60 * STEPS_AN_EPOCH + 1)), "each step is told once"
        done = client.job(made.id)
        assert (done.state, done.starts) == (JOB_STATE_SUCCEEDED, 3)
        client.download(made.id, tmp_path / "model.safetensors")
    alone = train(**{**QUICK, "epochs": 60}, run_dir=tmp_path / "alone")
    assert weights(tmp_path / "model.safetensors") == weights(alone.folder / "model.safetensors")


@pytest.mark.timeout(300)
def test_a_training_actor_that_hangs_is_replaced(tmp_path: Path) -> None:
    """SIGSTOP: nobody is told of it, it just does not answer any more."""
    with serving(tmp_path / "state", "--cpus", "2") as running, running.client() as client:
        until_cluster(running.address)
        job = {**QUICK, "epochs": 60, "resources": {"timeout_s": 5}}
        made = client.submit(**job, checkpoint={"every_steps": 20})
        wait_for(client, made.id, "checkpoint")
        for process in psutil.Process(ray_of(running.state)).children(recursive=True):
            if any(file.path.endswith("/lock") for file in process.open_files()):
                process.suspend()  # and not the one that is kept ready
        events = events_to_end(client, made.id)
        said = [e.log.text for e in events if e.HasField("log")]
        assert any("it hangs: no answer within 5" in text for text in said)
        steps = [e.metrics.step for e in events if e.HasField("metrics")]
        assert steps == list(range(1, 60 * STEPS_AN_EPOCH + 1))
        assert (client.job(made.id).state, client.job(made.id).starts) == (JOB_STATE_SUCCEEDED, 2)


@pytest.mark.timeout(300)
def test_told_to_end_it_saves_and_goes_on_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    running = start(state, "--cpus", "2")
    until_cluster(running.address)
    with running.client() as client:
        made = client.submit(**{**QUICK, "epochs": 4000})
        wait_for(client, made.id, "metrics")
    ray_of(state)
    assert stop(running) == 0
    assert own_ray.find(state) is None
    with serving(state, "--cpus", "2") as again, again.client() as client:
        events = []
        for news in client.watch(made.id):
            if isinstance(news, Event):
                events.append(news)
                if states_of(events).count(JOB_STATE_RUNNING) == 2:
                    break
        reasons = [e.state.reason for e in events if e.HasField("state")]
        assert any(reason.startswith("the service stopped at step") for reason in reasons)
        client.cancel(made.id)
