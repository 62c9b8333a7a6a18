"""A tracer records between start() and stop() alone."""

import pytest

from workers.trace import Tracer


def test_spans_are_recorded_between_start_and_stop_alone() -> None:
    tracer = Tracer()
    with tracer.span("forward", 0, 0):
        pass
    assert tracer.stop() == []
    tracer.start()
    with tracer.span("update", 1, 2):
        pass
    with tracer.span("optimizer", 1):
        pass
    with pytest.raises(ValueError, match="fails"), tracer.span("forward", 2, 0):
        raise ValueError("fails")
    spans = tracer.stop()
    assert [(span.what, span.step, span.microbatch) for span in spans] == [
        ("update", 1, 2),
        ("optimizer", 1, -1),
    ]
    assert all(span.start <= span.end for span in spans)
    assert tracer.stop() == []
