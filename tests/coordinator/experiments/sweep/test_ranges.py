"""The ranges of a sweep: what `--over` means, and that every value drawn is inside."""

from math import isclose, log, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.experiments.sweep.ranges import Choice, Interval, nested, read_range
from dfa_core import JobError

SHARES = st.floats(0, nextafter(1, 0))
POSITIVE = st.floats(1e-12, 1e12)


@given(st.tuples(POSITIVE, POSITIVE).filter(lambda ends: ends[0] < ends[1]), SHARES, st.booleans())
def test_numbers_are_inside_and_as_far_as_their_share(
    ends: tuple[float, float], share: float, as_log: bool
) -> None:
    low, high = ends
    field, found = read_range(f"optimizer.lr={low!r}..{high!r}{':log' if as_log else ''}")
    assert (field, found) == ("optimizer.lr", Interval(low, high, whole=False, log=as_log))
    value = found.draw(share)
    assert isinstance(value, float)
    assert low <= value <= high
    if as_log:
        wanted = log(low) + share * (log(high) - log(low))
        assert isclose(log(value), wanted, abs_tol=1e-3)  # four digits
    else:
        assert isclose(value, low + share * (high - low), rel_tol=1e-3)
    assert float(f"{value:.4g}") == value or value in ends


@given(st.tuples(st.integers(1, 4096), st.integers(1, 4096)), SHARES, st.booleans())
def test_whole_numbers_stay_whole(ends: tuple[int, int], share: float, as_log: bool) -> None:
    low, high = min(ends), max(ends) + 1
    for field in ("batch_size", "options.width"):
        _, found = read_range(f"{field}={low}..{high}{':log' if as_log else ''}")
        value = found.draw(share)
        assert isinstance(value, int)
        assert low <= value <= high
        assert found.draw(0) == low
        assert found.draw(nextafter(1, 0)) == high
        assert found.size == high - low + 1


@given(st.lists(st.integers(0, 99), min_size=2, unique=True), SHARES)
def test_a_choice_gives_each_value_the_same_share(values: list[int], share: float) -> None:
    _, found = read_range(f"seed={','.join(map(str, values))}")
    assert found == Choice(tuple(values))
    assert found.draw(share) == values[int(share * len(values))]


def test_what_a_field_holds_decides_what_is_whole() -> None:
    assert read_range("optimizer.lr=1..10")[1] == Interval(1.0, 10.0, whole=False, log=False)
    assert read_range("options.rate=0.5..2")[1] == Interval(0.5, 2.0, whole=False, log=False)
    assert read_range("optimizer.name=sgd, adam")[1] == Choice(("sgd", "adam"))
    assert read_range("feedback.shared=true,false")[1] == Choice((True, False))
    assert nested("optimizer.options.momentum", 0.9) == {
        "optimizer": {"options": {"momentum": 0.9}}
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("optimizer.lr", "must look like"),
        ("optimizer.lr=", "must look like"),
        ("=1..2", "must look like"),
        ("optimizer..lr=1..2", "must look like"),
        ("optimizer.lrr=1..2", "unknown field; did you mean lr"),
        ("nothing=1,2", "unknown field"),
        ("optimizer.lr=0..1:log", "must be above 0, and this one begins at 0"),
        ("optimizer.lr=-1..1:log", "must be above 0"),
        ("optimizer.lr=2..1", "2 must be below 1"),
        ("optimizer.lr=1..1", "1 must be below 1"),
        ("optimizer.lr=1..inf", "both finite"),
        ("optimizer.lr=nan..1", "both finite"),
        ("optimizer.lr=a..b", "must be two numbers"),
        ("optimizer.lr=1..2..3", "must be two numbers"),
        ("optimizer.lr=1,2:log", "a range is two numbers"),
        ("optimizer.lr=1e-3", "one value is no choice"),
        ("optimizer.lr=1,1.0", "twice"),
        ("optimizer.lr=1,[", "not valid YAML"),
        ("optimizer.lr=1,abc", "'abc' is not a finite number"),
        ("batch_size=16..20.5", "not a whole number"),
        ("feedback.shared=0..1", "not true or false"),
        ("optimizer=1,2", "must hold fields of its own"),
        ("epochs=1,2", "same budget: set it with --epochs"),
        ("method=bp,dfa", "--method"),
        ("resources.threads=1,2", "set it for all trials with --set"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, why: str) -> None:
    with pytest.raises(JobError) as raised:
        read_range(text)
    line = str(raised.value)
    assert line.startswith(f"--over {text}: ")
    assert why in line
    assert "\n" not in line
