"""Jobs on a real service: what they do, and that they end with the bits of `errorcast train`."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import (
    JOB_STATE_CANCELLED,
    JOB_STATE_FAILED,
    JOB_STATE_PAUSED,
    JOB_STATE_QUEUED,
    JOB_STATE_RUNNING,
    JOB_STATE_STARTING,
    JOB_STATE_SUCCEEDED,
    Progress,
)
from support.command_line import run_errorcast
from support.running import QUICK, Running, events_to_end, states_of, wait_for
from support.runs import weights

from coordinator.client import Client, ServiceRefused

LONG: dict[str, Any] = {**QUICK, "epochs": 4000}


@pytest.fixture(scope="module")
def finished(service: Running) -> Iterator[tuple[str, list[Event]]]:
    """A job of the same length that ran to its end on two blocks: its id, and all its events."""
    with service.client() as client:
        job = client.submit(**{**QUICK, "epochs": 15}, blocks=2)
        yield job.id, events_to_end(client, job.id)


def test_a_job_has_the_weights_of_errorcast_train(
    client: Client, finished: tuple[str, list[Event]], undisturbed: Path, tmp_path: Path
) -> None:
    job_id, events = finished
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert states_of(events) == [
        JOB_STATE_QUEUED,
        JOB_STATE_STARTING,
        JOB_STATE_RUNNING,
        JOB_STATE_SUCCEEDED,
    ]
    losses = [event.metrics.step for event in events if event.HasField("metrics")]
    assert losses == list(range(1, 15 * 22 + 1))
    done = client.job(job_id)
    assert done.metrics["accuracy"] > 0.9
    assert done.progress.step == done.progress.total_steps == 330
    assert {load.process for load in done.progress.processes} == {
        "block 1",
        "block 2",
        "coordinator",
    }
    assert client.download(job_id, tmp_path / "model.safetensors") == 330
    assert weights(tmp_path / "model.safetensors") == weights(undisturbed)


def test_paused_scaled_and_resumed_it_has_the_same_weights(
    client: Client, undisturbed: Path, tmp_path: Path
) -> None:
    job = client.submit(**{**QUICK, "epochs": 15}, blocks=1)
    wait_for(client, job.id, "metrics")
    client.scale(job.id, blocks=2)
    scaled = wait_for(client, job.id, "scaling")
    assert (scaled.scaling.from_blocks, scaled.scaling.to_blocks) == (1, 2)
    wait_for(client, job.id, "metrics", scaled.number)
    client.pause(job.id)
    for news in client.watch(job.id, scaled.number):
        if isinstance(news, Event) and news.state.state == JOB_STATE_PAUSED:
            break
    client.scale(job.id, blocks=3)  # of a paused job: at once
    assert client.job(job.id).spec.blocks == 3
    for _ in range(2):
        client.resume(job.id)
    events = events_to_end(client, job.id)
    steps = [event.metrics.step for event in events if event.HasField("metrics")]
    assert steps == list(range(1, 331)), "each step is reported once"
    assert client.job(job.id).state == JOB_STATE_SUCCEEDED
    client.download(job.id, tmp_path / "model.safetensors")
    assert weights(tmp_path / "model.safetensors") == weights(undisturbed)


def test_predict_gives_what_the_model_gives(
    client: Client, finished: tuple[str, list[Event]], tmp_path: Path
) -> None:
    job_id, _ = finished
    client.download(job_id, tmp_path / "model.safetensors")
    w = safetensors.torch.load_file(tmp_path / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9000, 64, generator=generator)  # above one request
    h = x
    for layer in range(3):
        h = torch.tanh(h @ w[f"layers.{layer}.0.weight"].T + w[f"layers.{layer}.0.bias"])
    expected = h @ w["head.weight"].T + w["head.bias"]
    found = client.predict(job_id, x.numpy())
    assert found.shape == (9000, 10)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    with pytest.raises(ServiceRefused, match="BAD_REQUEST: input: .*layer 0"):
        client.predict(job_id, np.zeros((3, 65), np.float32))


def test_outputs_may_be_larger_than_a_message(client: Client, tmp_path: Path) -> None:
    """1,200 outputs of 8,000 bytes; gRPC's clients take 4 MiB in a message."""
    job = client.submit(task="mytask.py:make_wide")
    assert states_of(events_to_end(client, job.id))[-1] == JOB_STATE_SUCCEEDED
    x = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    client.download(job.id, tmp_path / "model.safetensors")
    w = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    h = np.tanh(x @ w["layers.0.0.weight"].T + w["layers.0.0.bias"])
    found = client.predict(job.id, x)
    assert found.shape == (1200, 2000)
    np.testing.assert_allclose(found, h @ w["head.0.weight"].T + w["head.0.bias"], atol=1e-5)


def test_a_job_that_fails_shows_the_workers_own_trace(service: Running, client: Client) -> None:
    job = client.submit(task="mytask.py:make_failing", epochs=50, blocks=2, microbatches=1)
    events = events_to_end(client, job.id)
    assert states_of(events)[-1] == JOB_STATE_FAILED
    failed = client.job(job.id)
    assert "the layer gives up" in failed.reason
    text = "\n".join(event.log.text for event in events)
    assert "raise ArithmeticError" in text
    assert "mytask.py" in text
    shown = run_errorcast("logs", job.id, **service.environment)
    assert shown.code == 0, shown.err
    assert "raise ArithmeticError" in shown.out


def test_what_does_not_fit_waits_and_says_why(client: Client) -> None:
    job = client.submit(**QUICK, blocks=3, resources={"cpus": 2})
    for news in client.watch(job.id):
        if isinstance(news, Event) and "waits: needs" in news.log.text:
            break
    waiting = client.job(job.id)
    assert waiting.state == JOB_STATE_QUEUED
    assert waiting.reason == "needs 3 workers x 2 CPU, the cluster has 4 CPU"
    quick = client.submit(**QUICK, blocks=1)  # not held back by what can never fit
    assert states_of(events_to_end(client, quick.id))[-1] == JOB_STATE_SUCCEEDED
    assert client.pause(job.id).state == JOB_STATE_PAUSED
    assert client.cancel(job.id).state == JOB_STATE_CANCELLED


def test_cancelled_twice_deleted_twice(client: Client, service: Running) -> None:
    job = client.submit(**LONG, blocks=1)
    wait_for(client, job.id, "checkpoint")
    assert (service.state / "jobs" / job.id / "job.yaml").exists()
    with pytest.raises(ServiceRefused, match="WRONG_STATE"):
        client.delete(job.id)
    for _ in range(2):
        assert client.cancel(job.id).state == JOB_STATE_CANCELLED
    assert states_of(events_to_end(client, job.id))[-1] == JOB_STATE_CANCELLED
    for refused in (client.pause, client.resume):
        with pytest.raises(ServiceRefused, match=f"WRONG_STATE: {job.id} is CANCELLED"):
            refused(job.id)
    for _ in range(2):
        client.delete(job.id)
    assert not (service.state / "jobs" / job.id).exists()
    with pytest.raises(ServiceRefused, match="NO_JOB"):
        client.job(job.id)


def test_one_request_id_is_one_job(client: Client) -> None:
    made = []
    threads = [
        threading.Thread(
            target=lambda: made.append(
                client.submit(**QUICK, blocks=3, request_id="twice-the-same")
            )
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in made}) == 1
    with pytest.raises(ServiceRefused, match="REUSED"):
        client.submit(**QUICK, blocks=2, request_id="twice-the-same")
    client.cancel(made[0].id)


def test_a_running_job_shows_progress_between_events_and_its_timeline(client: Client) -> None:
    resources = {"head": "block"}
    job = client.submit(**{**LONG, "log_every": 100000, "resources": resources}, blocks=2)
    seen = []
    for news in client.watch(job.id):
        if isinstance(news, Progress) and news.step > 0:
            seen.append(news)
            if len(seen) == 3:
                break
    assert len(seen) == 3, client.job(job.id).reason
    assert seen[0].step < seen[-1].step
    trace = json.loads(client.timeline(job.id, steps=2))
    computed = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["name"] != "wait"]
    assert {e["tid"] for e in computed} == {0, 1}  # the coordinator only feeds
    assert [e["tid"] for e in computed if e["name"] == "head"] == [1] * 2 * 4
    steps = sorted({e["args"]["step"] for e in computed})
    assert len(steps) == 2
    for thread in (0, 1):
        mine = [e["name"] for e in computed if e["tid"] == thread]
        assert mine.count("forward") == mine.count("update") == 2 * 4
    client.cancel(job.id)
    with pytest.raises(ServiceRefused, match="WRONG_STATE"):
        client.timeline(job.id)


def test_pages_and_latest(client: Client) -> None:
    ids = [client.submit(**QUICK, blocks=3, resources={"cpus": 9}).id for _ in range(3)]
    assert client.job("latest").id == ids[-1]
    stub, pb = client._stub, __import__("errorcast.v1.service_pb2").v1.service_pb2
    token = client._metadata
    first = stub.ListJobs(pb.ListJobsRequest(page_size=2), metadata=token)
    assert [job.id for job in first.jobs] == ids[:0:-1]
    request = pb.ListJobsRequest(page_size=2, page_token=first.next_page_token)
    second = stub.ListJobs(request, metadata=token)
    assert second.jobs[0].id == ids[0]
    waiting = {job.id for job in client.jobs([JOB_STATE_QUEUED])}
    assert waiting >= set(ids)
    for job_id in ids:
        client.cancel(job_id)
    assert not set(ids) & {job.id for job in client.jobs([JOB_STATE_QUEUED])}


BAD = {
    "task": ({"task": "digist"}, "BAD_JOB: task: unknown 'digist'; did you mean digits"),
    "blocks": ({"task": "digits", "blocks": 0}, "BAD_JOB: blocks: 0 is not between 1 and"),
    "too many blocks": (
        {"task": "digits", "blocks": 2**31},
        "BAD_JOB: blocks: 2147483648 is above",
    ),
    "microbatches": ({"task": "digits", "microbatches": 3}, "BAD_JOB: microbatches: 3 does not"),
    "option": ({"task": "digits", "options": {"widht": 3}}, "BAD_JOB: options: .*no 'widht'"),
    "huge": ({"task": "digits", "options": {"layers": 1e9}}, "BAD_JOB: .*8 GiB"),
    "no task": ({}, "BAD_JOB: task: is missing"),
    "code": ({"task": "/etc/passwd.py:f"}, "NOT_ALLOWED: task: /etc/passwd.py:f is not"),
    "traversal": ({"task": "../../x.py:f"}, "NOT_ALLOWED"),
    "data": ({"task": "mnist", "data_dir": "/etc"}, "NOT_ALLOWED: data_dir: /etc is in no folder"),
    "nul": ({"task": "a\0b.py:f"}, "NOT_ALLOWED"),
    "hangs": ({"task": "mytask.py:make_hanging"}, "BAD_JOB: the task could not be built"),
    "dies": ({"task": "mytask.py:make_dying"}, "BAD_JOB: the task could not be built"),
    "readers": (
        {"task": "digits", "resources": {"data_workers": 65}},
        "BAD_JOB: resources.data_workers: 65 is above 64",
    ),
    "readers of replicas": (
        {
            "task": "digits",
            "replicas": 2,
            "microbatches": 2,
            "resources": {"data_workers": 33, "sharded_reading": True},
        },
        "BAD_JOB: resources.data_workers: 66 is above 64, in all replicas",
    ),
    "large": ({"task": "digits", "options": {"x": "y" * 70000}}, "TOO_MUCH: spec"),
}


@pytest.mark.parametrize("settings", BAD.values(), ids=BAD)
def test_bad_jobs_are_refused_in_one_line(
    client: Client, settings: tuple[dict[str, Any], str]
) -> None:
    with pytest.raises(ServiceRefused, match=settings[1]) as refused:
        client.submit(**settings[0])
    assert "\n" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_long_logs_come_in_messages_that_a_client_takes() -> None:
    from errorcast.v1.event_pb2 import LogLine

    from coordinator.service.api.requests import fitting_events

    events = [Event(number=n + 1, log=LogLine(text="x" * 60_000)) for n in range(200)]
    sent: list[Event] = []
    while len(sent) < 200:
        message = fitting_events(events[len(sent) :])
        assert message
        assert sum(event.ByteSize() for event in message) <= 1 << 20
        sent += message
    assert sent == events
    assert fitting_events([Event(log=LogLine(text="x" * (3 << 20)))])
