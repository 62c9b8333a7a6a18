"""Which steps a timeline shows."""

from coordinator.training.tracing import TraceRequest


def test_as_many_steps_are_traced_as_were_asked_for() -> None:
    two = TraceRequest(2)
    assert two.end(0, 10, longest=22, total=220) == 2
    # one step before an event, or a machine on which a step takes a second: the next segment
    assert two.end(21, 22, longest=22, total=220) is None
    assert two.end(22, 24, longest=22, total=220) == 24


def test_where_no_segment_is_so_long_all_of_one_is_traced() -> None:
    many = TraceRequest(100)
    assert many.end(22, 44, longest=22, total=220) == 44
    assert many.end(30, 44, longest=22, total=220) is None
    assert many.end(198, 220, longest=22, total=220) == 220
    assert many.end(215, 220, longest=22, total=220) == 220
