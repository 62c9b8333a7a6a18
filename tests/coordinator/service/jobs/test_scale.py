"""A job goes on with another number of workers."""

import pytest
from errorcast.v1.job_pb2 import HEAD_PLACE_COORDINATOR, JOB_STATE_SUCCEEDED
from support.running import QUICK, events_to_end, wait_for

from coordinator.client import Client, ServiceRefused
from coordinator.service.jobs.record import workers_of


def test_a_job_continues_with_replicas_and_heads(client: Client) -> None:
    job = client.submit(**{**QUICK, "epochs": 15}, blocks=1)
    wait_for(client, job.id, "metrics")
    client.scale(job.id, blocks=1, replicas=2, heads=1)  # all four CPUs
    s = wait_for(client, job.id, "scaling").scaling
    assert (s.from_blocks, s.from_replicas, s.from_heads) == (1, 1, 0)
    assert (s.to_blocks, s.to_replicas, s.to_heads) == (1, 2, 1)
    events = events_to_end(client, job.id)
    steps = [event.metrics.step for event in events if event.HasField("metrics")]
    assert steps == list(range(1, 331)), "each step is reported once"
    ended = client.job(job.id)
    assert ended.state == JOB_STATE_SUCCEEDED
    assert ended.metrics["accuracy"] > 0.9
    processes = {load.process for load in ended.progress.processes}
    assert {"block 1 of replica 2", "head 1 of replica 2"} < processes


def test_of_so_many_workers_the_fastest_shape_is_taken(client: Client) -> None:
    job = client.submit(**QUICK, blocks=3, replicas=2, resources={"cpus": 9})
    for workers in (2, 4):
        spec = client.scale(job.id, workers=workers).spec
        assert workers_of(spec) + (spec.resources.head == HEAD_PLACE_COORDINATOR) == workers
        assert spec.microbatches == job.spec.microbatches
    client.cancel(job.id)


def test_a_scale_that_cannot_be_is_refused(client: Client) -> None:
    job = client.submit(**QUICK, blocks=3, resources={"cpus": 9})
    with pytest.raises(ServiceRefused, match="BAD_JOB: replicas: 3 does not divide microbatches"):
        client.scale(job.id, blocks=1, replicas=3)
    with pytest.raises(ServiceRefused, match="BAD_REQUEST: blocks: there must be 1 to 4096"):
        client.scale(job.id, blocks=3, replicas=2048)
    with pytest.raises(ServiceRefused, match="BAD_JOB: heads: 9 are more than the"):
        client.scale(job.id, blocks=1, heads=9)
    with pytest.raises(ServiceRefused, match="BAD_REQUEST: workers: 5000 is above 4096"):
        client.scale(job.id, workers=5000)
    with pytest.raises(ServiceRefused, match="BAD_JOB: workers: 97: .* 97 workers"):
        client.scale(job.id, workers=97)
    with pytest.raises(ServiceRefused, match="BAD_REQUEST: workers: blocks, replicas and heads"):
        client.scale(job.id, blocks=1, workers=2)
    assert client.scale(job.id, blocks=2, replicas=4).spec.replicas == 4
    assert client.scale(job.id, blocks=3).spec.replicas == 4  # as they are
    with pytest.raises(ServiceRefused, match="BAD_REQUEST: blocks: give blocks, replicas"):
        client.scale(job.id)
    with pytest.raises(
        ServiceRefused, match="BAD_JOB: blocks: 4 is not between 1 and the model's 3"
    ):
        client.scale(job.id, blocks=4)
    client.cancel(job.id)
