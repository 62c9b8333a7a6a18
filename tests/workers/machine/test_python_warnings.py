import warnings

from workers.machine.python_warnings import PythonWarning, PythonWarnings


def test_each_warning_is_told_once() -> None:
    told: list[PythonWarning] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        listener = PythonWarnings(told.append)
        listener.listen()
        for _ in range(3):
            warnings.warn("a\n  strange size", stacklevel=1)
        warnings.warn("a\n  strange size", RuntimeWarning, stacklevel=1)
        listener.note(PythonWarning("UserWarning: a strange size", "loss.py, line 3"))
        listener.note(PythonWarning("UserWarning: of another process", "layer.py, line 4"))
    texts = [warning.text for warning in told]
    assert texts == [
        "UserWarning: a strange size",
        "RuntimeWarning: a strange size",
        "UserWarning: of another process",
    ]
    assert str(told[0]).startswith("UserWarning: a strange size (test_python_warnings.py, line ")


def test_a_text_that_always_changes_is_told_a_few_times() -> None:
    told: list[PythonWarning] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        PythonWarnings(told.append).listen()
        for n in range(1000):
            warnings.warn(f"the loss is {n}", stacklevel=1)
    assert len(told) == 5
