"""Events cross the process boundary of the service as JSON."""

import json

import pytest

from coordinator.training.events import (
    Event,
    Finished,
    Metrics,
    Progress,
    Recovered,
    RolledBack,
    from_json,
    to_json,
)


@pytest.mark.parametrize(
    "event",
    [
        Metrics(step=3, loss=0.5, lr=0.1, samples_per_s=10.0),
        Recovered(seconds=1.25, step=7, repeated=2),
        Finished({"steps": 4, "best": None, "metrics": {"loss": 0.5}}),
        Progress(1, 2, 32, float("inf"), 0.1, [{"process": "block 1", "busy": 0.5}]),
    ],
)
def test_an_event_survives_json(event: Event | Progress) -> None:
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_messages_are_one_line_for_people() -> None:
    assert Recovered(1.25, 7, 2).message == "recovered in 1.2 s; 2 step(s) are repeated from step 7"
    assert RolledBack(8, 0.05, "the loss is nan at step 9").message == (
        "the loss is nan at step 9; rolled back to step 8, learning rate 0.05 from there"
    )
