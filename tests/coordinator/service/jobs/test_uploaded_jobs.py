"""Jobs of uploaded code on a real Ray, over TLS: they train, do not meet, and survive."""

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import psutil
import pytest
import trustme
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED
from support.command_line import own_imports, run_errorcast
from support.in_process import train_here
from support.own_project import add_user, project, tls_flags
from support.ray_processes import ray_processes
from support.running import Running, events_to_end, serving, states_of, until_cluster, wait_for
from support.runs import weights

from coordinator.client import Client, ServiceRefused
from coordinator.service.processes import own_ray

pytestmark = pytest.mark.service


class Users:
    """A service, and the clients of its users."""

    def __init__(self, running: Running, ca: bytes, tokens: dict[str, str]) -> None:
        self.running, self.ca, self.tokens = running, ca, tokens

    def client(self, user: str) -> Client:
        return Client(self.running.address, self.tokens[user], self.ca)

    def up(self) -> None:
        until_cluster(self.running.address, authority=self.ca)

    def left(self) -> list[str]:
        """Return the folders of jobs and of uploads."""
        folders = (self.running.state / name for name in ("jobs", "uploads"))
        return [str(p) for f in folders if f.exists() for p in f.glob("*") if any(p.iterdir())]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    folder, authority = tmp_path_factory.mktemp("users"), trustme.CA()
    tokens = {
        "alice": add_user(folder, "alice", "--upload", "--workers", "2"),
        "bob": add_user(folder, "bob", "--upload"),
    }
    flags = (*tls_flags(folder, authority), "--users", str(folder / "users.txt"), "--allow-uploads")
    with serving(folder / "state", *flags, "--cpus", "4") as running:
        found = Users(running, authority.cert_pem.bytes(), tokens)
        found.up()
        yield found


@pytest.fixture(autouse=True)
def ended(users: Users) -> Iterator[None]:
    """A test that fails leaves no job that holds workers."""
    yield
    for user in users.tokens:
        with users.client(user) as client, contextlib.suppress(ServiceRefused):
            for job in client.jobs():
                if job.owner == user:
                    client.cancel(job.id)


def alone(file: Path, run_dir: Path, **settings: object) -> dict[str, bytes]:
    """Return the weights that the task gets where it lies, in this process."""
    with chdir(file.parent), own_imports(file.parent):
        return weights(train_here(f"{file}:make_task", run_dir, **settings).folder)


def test_two_users_tasks_train_and_their_modules_of_one_name_do_not_meet(
    users: Users, tmp_path: Path
) -> None:
    """From another folder; in checks, training actors and workers at once, and in predictions."""
    files = {
        "alice": project(tmp_path / "a", width=8, bend="tanh"),
        "bob": project(tmp_path / "b", width=12, bend="relu"),
    }
    (tmp_path / "ca.pem").write_bytes(users.ca)
    ids, outputs = {}, {}
    for user, file in files.items():
        (tmp_path / "token").write_text(users.tokens[user])
        words = ("submit", f"../{file.relative_to(tmp_path)}:make_task", "--set", "epochs=20")
        reach = ("--tls-ca", "../ca.pem", "--token-file", "../token")
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        address = {"ERRORCAST_ADDRESS": users.running.address}
        done = run_errorcast(*words, *reach, cwd=tmp_path / "elsewhere", **address)
        assert done.code == 0, done.out + done.err
        ids[user], code = done.out.splitlines()[:2]
        assert code.startswith("code: 5 files, ")
    for user, job_id in ids.items():
        with users.client(user) as client:
            events_to_end(client, job_id)
            assert client.job(job_id).state == JOB_STATE_SUCCEEDED
            client.download(job_id, tmp_path / user)
            outputs[user] = client.predict(job_id, np.ones((3, 4), np.float32)).tolist()
            client.delete(job_id)
        there = alone(files[user], tmp_path / f"run of {user}", epochs=20)
        assert weights(tmp_path / user) == there
    assert outputs["alice"] != outputs["bob"]
    assert users.left() == []


def test_a_job_keeps_its_code_through_kills_pauses_and_scaling(
    users: Users, tmp_path: Path
) -> None:
    """The laptop's files are gone, and the job's own copy is damaged meanwhile."""
    file, settings = project(tmp_path / "mine", gate=200), {"epochs": 4, "options": {"times": 25}}
    (file.parent / "gate").touch()
    expected = alone(file, tmp_path / "run", **settings)
    (file.parent / "gate").unlink()
    with users.client("alice") as client:
        job_id = client.submit(task=f"{file}:make_task", **settings).id
        shutil.rmtree(file.parent)
        wait_for(client, job_id, "metrics")
    users.running.kill()
    users.running.start_again()
    users.up()
    with users.client("alice") as client:
        own = own_ray.find(users.running.state)
        assert own is not None
        copy = users.running.state / "jobs" / job_id / "code"
        (copy / "gate").touch()
        psutil.Process(ray_processes("ray::BlockWorker", own.process)[-1]).kill()  # it recovers
        client.pause(job_id)
        paused = client_events(client, job_id, "paused at step")
        assert len(states_of(paused)) >= 4
        (copy / "helper.py").write_text("raise SystemExit")
        (copy / "rows.csv").unlink()
        client.scale(job_id, blocks=1)
        client.resume(job_id)
        events_to_end(client, job_id, paused[-1].number)
        done = client.job(job_id)
        assert (done.state, done.spec.blocks, done.starts) == (JOB_STATE_SUCCEEDED, 1, 2)
        client.download(job_id, tmp_path / "there")
        client.delete(job_id)
    assert weights(tmp_path / "there") == expected
    assert users.left() == []


def client_events(client: Client, job_id: str, reason: str) -> list[Event]:
    """Return a job's events up to the state with this reason."""
    events = []
    for news in client.watch(job_id):
        if isinstance(news, Event):
            events.append(news)
            if news.state.reason.startswith(reason):
                return events
    raise AssertionError(f"{job_id} ended without '{reason}'")


def test_a_job_above_its_users_limit_waits_and_code_changed_meanwhile_does_not_start(
    users: Users, tmp_path: Path
) -> None:
    """Others are not held back. Submitted again, the code is sent again."""
    file = project(tmp_path / "mine", width=6)
    with users.client("alice") as alice, users.client("bob") as bob:
        first = alice.submit(task="digits", epochs=4000, options={"width": 16})
        second = alice.submit(task=f"{file}:make_task", blocks=1)
        third = bob.submit(task=f"{file}:make_task", blocks=1)
        events_to_end(bob, third.id)
        assert bob.job(third.id).state == JOB_STATE_SUCCEEDED
        assert alice.job(second.id).reason == "needs 1 worker, and alice has 2 of 2"
        upload = users.running.state / "uploads" / "alice" / second.spec.code
        (upload / "files" / "helper.py").write_text("WIDTH = 0\n")
        alice.cancel(first.id)
        events_to_end(alice, second.id)
        failed = alice.job(second.id)
        assert (failed.state, failed.reason) == (
            JOB_STATE_FAILED,
            "DAMAGED: code: helper.py was changed on the disk of the service; submit the job again",
        )
        again = alice.submit(task=f"{file}:make_task", blocks=1)
        events_to_end(alice, again.id)
        assert alice.job(again.id).state == JOB_STATE_SUCCEEDED
        for client, job in ((alice, first), (alice, second), (alice, again), (bob, third)):
            client.delete(job.id)
    assert users.left() == []
