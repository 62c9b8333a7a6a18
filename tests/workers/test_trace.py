"""A tracer records between start() and stop() alone."""

import gzip
import json

import pytest
import torch

from workers.trace import Tracer


def test_spans_are_recorded_between_start_and_stop_alone() -> None:
    tracer = Tracer()
    with tracer.span("forward", 0, 0):
        pass
    assert tracer.stop().spans == []
    tracer.start()
    with tracer.span("update", 1, 2):
        pass
    with tracer.span("optimizer", 1):
        pass
    with pytest.raises(ValueError, match="fails"), tracer.span("forward", 2, 0):
        raise ValueError("fails")
    spans = tracer.stop().spans
    assert [(span.what, span.step, span.microbatch) for span in spans] == [
        ("update", 1, 2),
        ("optimizer", 1, -1),
    ]
    assert all(span.start <= span.end for span in spans)
    assert tracer.stop().spans == []


def test_the_profiler_names_the_spans_and_their_operations() -> None:
    tracer = Tracer()
    tracer.start(profiled=True)
    with tracer.span("forward", 3, 1):
        torch.ones(4, 4) @ torch.ones(4, 4)
    with tracer.span("optimizer", 3):
        pass
    recording = tracer.stop()
    assert [span.what for span in recording.spans] == ["forward", "optimizer"]
    events = json.loads(gzip.decompress(recording.profile))["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"forward of microbatch 1, step 3", "optimizer, step 3", "aten::mm"} <= names
    assert tracer.stop().profile == b""
