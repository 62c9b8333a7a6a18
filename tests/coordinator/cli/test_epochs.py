"""Which evaluations of a run keep their line: a long run stays readable, a short one shows all."""

import io
from collections.abc import Iterator

import pytest

from coordinator.cli.epochs import EpochLines, Scored, interval
from coordinator.cli.terminal import Terminal
from coordinator.cli.viewer import TerminalViewer
from coordinator.training.events import Evaluation, FaultSeen, Finished, Progress, Recovered


def evaluations(epochs: int, data: str = "test") -> Iterator[Evaluation]:
    """The loss falls until two thirds of the epochs, then rises."""
    best = 2 * epochs // 3 + 1
    for epoch in range(1, epochs + 1):
        scores = {"loss": 1 + abs(epoch - best) / epochs, "accuracy": epoch / epochs}
        yield Evaluation(10 * epoch, epoch, epochs, data, scores)


def lines_of(epochs: int) -> list[str]:
    lines, shown = EpochLines(), []
    for one in evaluations(epochs):
        scored = Scored(one.epoch, one.epochs, one.data, one.scores)
        if lines.keeps(scored):
            shown.append(scored.line)
    return shown + lines.at_end()


@pytest.mark.parametrize("epochs", [1, 2, 10, 29, 30])
def test_a_short_run_shows_all_its_evaluations_and_nothing_more(epochs: int) -> None:
    shown = lines_of(epochs)
    assert [line.split()[1] for line in shown] == [f"{i}/{epochs}" for i in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [31, 60, 61, 99, 365, 1000, 1001, 12345])
def test_a_long_run_shows_a_few_dozen_with_the_first_the_lowest_and_the_last(epochs: int) -> None:
    shown = lines_of(epochs)
    assert len(shown) <= 32
    assert [line.split()[1] for line in shown[:10]] == [f"{i}/{epochs}" for i in range(1, 11)]
    assert any(f"epoch {2 * epochs // 3 + 1}/{epochs} " in line for line in shown)
    assert any(line.startswith(f"epoch {epochs}/{epochs} ") for line in shown[-2:])
    assert len({line.removeprefix("lowest loss: ") for line in shown}) == len(shown)


def test_the_interval_is_one_two_or_five_times_a_power_of_ten() -> None:
    found = {n: interval(n) for n in (1, 30, 31, 40, 41, 100, 101, 200, 201, 1000, 1001, 2001)}
    assert list(found.values()) == [1, 1, 2, 2, 5, 5, 10, 10, 20, 50, 100, 200]


def test_the_test_of_the_best_epoch_and_the_lowest_validation_both_stay() -> None:
    lines, shown = EpochLines(), []
    every = [*evaluations(100, "validation"), Evaluation(670, 67, 100, "test", {"loss": 1.5})]
    for one in every:
        scored = Scored(one.epoch, one.epochs, one.data, one.scores)
        if lines.keeps(scored):
            shown.append(scored.line)
    assert shown[-1].startswith("epoch 67/100  test loss 1.5")
    assert lines.at_end() == ["lowest loss: epoch 67/100  validation loss 1.0000  accuracy 0.6700"]


def test_a_loss_that_is_nan_hides_nothing() -> None:
    lines = EpochLines()
    for epoch in range(1, 72):
        lines.keeps(Scored(epoch, 100, "test", {"loss": float("nan")}))
    assert lines.at_end() == ["epoch 71/100  test loss nan"]


def viewed(monkeypatch: pytest.MonkeyPatch, terminal: bool, epochs: int) -> str:
    """What a viewer writes of a run with a fault in its middle."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", stream)
    with TerminalViewer(Terminal()) as viewer:
        for one in evaluations(epochs):
            viewer.progress(Progress(one.step, 10 * epochs, one.step, 1.0, 0.01, []))
            viewer.event(one)
            if one.epoch == epochs // 2:
                viewer.event(FaultSeen("worker 1 (process 5) died"))
                viewer.event(Recovered(1.0, one.step, 3))
        viewer.event(Finished({}))
    return stream.getvalue()


def test_in_a_pipe_a_long_run_has_a_few_dozen_lines_and_no_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = viewed(monkeypatch, terminal=False, epochs=1000)
    assert not {"\r", "\x1b"} & {*shown}
    lines = shown.splitlines()
    assert len(lines) == 33
    assert "worker 1 (process 5) died" in lines
    assert lines.count(f"recovered in 1.0 s; 3 step(s) are repeated from step {5000}") == 1
    assert lines[-2].startswith("epoch 1000/1000  test loss")
    assert lines[-1].startswith("lowest loss: epoch 667/1000  test loss")


def test_on_a_terminal_the_newest_epoch_moves_and_the_same_lines_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    piped = viewed(monkeypatch, terminal=False, epochs=50).splitlines()
    shown = viewed(monkeypatch, terminal=True, epochs=50)
    assert "\x1b[2K" in shown
    for line in piped:
        assert line in shown
