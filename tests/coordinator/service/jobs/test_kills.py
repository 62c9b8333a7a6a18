"""A service killed at any moment: no job is lost or run twice, no watcher misses an event."""

import random
import threading
from collections.abc import Iterator
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
    states_of,
    stop,
    until_cluster,
    wait_for,
)
from support.runs import weights

from coordinator.client import Client
from coordinator.service.processes import own_ray

JOB: dict[str, Any] = {**QUICK, "epochs": 15, "blocks": 2}
ALL_STEPS = list(range(1, 15 * 22 + 1))


class Watcher(threading.Thread):
    """Follows a job from its first event to its last, through every lost connection."""

    def __init__(self, address: str, job_id: str) -> None:
        super().__init__(daemon=True)
        self._address, self._job_id = address, job_id
        self._more = threading.Condition()
        self.events: list[Event] = []
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with Client(self._address) as client:
                for news in client.watch(self._job_id):
                    if isinstance(news, Event):
                        with self._more:
                            self.events.append(news)
                            self._more.notify()
        except Exception as error:
            self.failure = error
        with self._more:
            self._more.notify()

    def until_further(self, count: int) -> None:
        """Wait for `count` more events, or for the job's end."""
        with self._more:
            wanted = len(self.events) + count
            assert self._more.wait_for(
                lambda: len(self.events) >= wanted or not self.is_alive(), timeout=120
            )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("disturbed") / "state"
    with serving(state, "--cpus", "4") as running:
        yield running


@pytest.fixture
def disturbed(shared: Running) -> Running:
    """A service that tests kill and start again; whichever was last, it runs now."""
    if shared.process.poll() is not None:
        shared.start_again()
    until_cluster(shared.address)
    return shared


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "kills"),
    [
        pytest.param(1, 2, marks=pytest.mark.service),
        pytest.param(5, 4, marks=pytest.mark.endurance),
    ],
)
def test_killed_several_times_during_each_job(
    disturbed: Running, undisturbed: Path, tmp_path: Path, jobs: int, kills: int
) -> None:
    rng = random.Random(7)
    address, watchers, ids = disturbed.address, list[Watcher](), list[str]()
    with Client(address) as client:
        before = [job.id for job in client.jobs()]
    for number in range(jobs):
        given = {**JOB, "seed": number, "request_id": f"job-{number:04d}"}
        with Client(address) as client:
            ids.append(client.submit(**given).id)
        watchers += [Watcher(address, ids[-1]) for _ in range(2)]
        for _ in range(kills):
            # at once, while the job starts, or between any two of its steps
            watchers[-1].until_further(rng.choice([0, 1, 2, rng.randrange(200)]))
            disturbed.kill()
            disturbed.start_again()
            with Client(address) as client:  # which could not know that it was taken
                assert client.submit(**given).id == ids[-1]
    for watcher in watchers:
        watcher.join(600)
        assert not watcher.is_alive()
        assert watcher.failure is None
        numbers = [event.number for event in watcher.events]
        assert numbers == list(range(1, len(numbers) + 1))
        assert steps_of(watcher.events) == ALL_STEPS
    with Client(address) as client:
        listed = [job for job in client.jobs() if job.id not in before]
        assert [job.id for job in listed] == ids[::-1]
        assert [(job.state, job.starts) for job in listed] == [(JOB_STATE_SUCCEEDED, 1)] * jobs
        client.download(ids[0], tmp_path / "model.safetensors")
    assert weights(tmp_path / "model.safetensors") == weights(undisturbed)


def steps_of(events: list[Event]) -> list[int]:
    return [event.metrics.step for event in events if event.HasField("metrics")]


def ray_of(state: Path) -> int:
    own = own_ray.find(state)
    assert own is not None
    return own.process


def kill_actors(running: Running) -> None:
    """Kill the training actor that runs, and the one that waits for a job."""
    for process in psutil.Process(ray_of(running.state)).children(recursive=True):
        if "TrainingWork" in " ".join(process.cmdline()):
            process.kill()


def until_it_runs_again(client: Client, job_id: str) -> list[Event]:
    """Return all events of a job up to its second start."""
    events = []
    for news in client.watch(job_id):
        if isinstance(news, Event):
            events.append(news)
            if states_of(events).count(JOB_STATE_RUNNING) == 2:
                return events
    raise AssertionError(f"{job_id} ended without a second start")


@pytest.mark.service
def test_a_killed_training_actor_or_cluster_costs_no_job(
    disturbed: Running, undisturbed: Path, tmp_path: Path
) -> None:
    with disturbed.client() as client:
        made = client.submit(**JOB, checkpoint={"every_steps": 40})
        wait_for(client, made.id, "checkpoint")
        kill_actors(disturbed)
        until_it_runs_again(client, made.id)
        end_ray(disturbed.state)  # the whole cluster
        assert steps_of(events_to_end(client, made.id)) == ALL_STEPS, "each step is reported once"
        done = client.job(made.id)
        assert (done.state, done.starts) == (JOB_STATE_SUCCEEDED, 3)
        client.download(made.id, tmp_path / "model.safetensors")
    assert weights(tmp_path / "model.safetensors") == weights(undisturbed)


@pytest.mark.service
def test_a_training_actor_that_hangs_is_replaced(disturbed: Running) -> None:
    """SIGSTOP: nothing reports it; the process only stops answering."""
    with disturbed.client() as client:
        job = {**JOB, "blocks": 1, "resources": {"timeout_s": 5}}
        made = client.submit(**job, checkpoint={"every_steps": 20})
        wait_for(client, made.id, "checkpoint")
        for process in psutil.Process(ray_of(disturbed.state)).children(recursive=True):
            if any(file.path.endswith("/lock") for file in process.open_files()):
                process.suspend()  # and not the one that is kept ready
        events = events_to_end(client, made.id)
        said = [e.log.text for e in events if e.HasField("log")]
        assert any("it hangs: no answer within 5" in text for text in said)
        assert steps_of(events) == ALL_STEPS
        assert (client.job(made.id).state, client.job(made.id).starts) == (JOB_STATE_SUCCEEDED, 2)


@pytest.mark.service
def test_on_a_signal_to_end_it_saves_and_continues_later(disturbed: Running) -> None:
    with disturbed.client() as client:
        made = client.submit(**{**JOB, "blocks": 1, "epochs": 4000})
        wait_for(client, made.id, "metrics")
    ray_of(disturbed.state)
    assert stop(disturbed) == 0
    assert own_ray.find(disturbed.state) is None
    disturbed.start_again()
    with disturbed.client() as client:
        events = until_it_runs_again(client, made.id)
        reasons = [e.state.reason for e in events if e.HasField("state")]
        assert any(reason.startswith("the service stopped at step") for reason in reasons)
        client.cancel(made.id)
