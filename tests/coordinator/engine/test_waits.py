"""What a run waits for is reported, and not at every step."""

from time import monotonic, sleep

from coordinator.engine.waits import Waits

FIRST_S = 0.1


def test_a_long_wait_is_reported_and_a_short_one_is_not() -> None:
    reported: list[tuple[str, float]] = []
    waits = Waits(lambda what, seconds: reported.append((what, seconds)), FIRST_S)
    with waits.on("the data", "of step 6"):
        pass
    sleep(2 * FIRST_S)  # in which the run works
    assert reported == []
    with waits.on("the data", "of step 7"):
        while len(reported) < 2:
            sleep(FIRST_S / 10)
    (first, early), (second, late) = reported[:2]
    assert first == second == "the data of step 7"
    assert early >= FIRST_S
    assert 2 * early <= late
    waits.close()


def test_a_source_that_is_slow_at_every_step_is_reported_a_few_times() -> None:
    reported: list[str] = []
    waits = Waits(lambda what, _: reported.append(what), FIRST_S)
    began = monotonic()
    for step in range(6):
        with waits.on("the data", f"of step {step}"):
            sleep(1.3 * FIRST_S)
    slowest = monotonic() - began  # on a busy machine a sleep takes longer
    assert len(reported) <= 1 + slowest / (2 * FIRST_S)
    with waits.on("the checkpoint", "to be written"):  # another kind of wait
        while "the checkpoint to be written" not in reported:
            sleep(FIRST_S / 10)
    waits.close()
    assert reported[0].startswith("the data of step ")


def test_without_a_report_nothing_runs() -> None:
    with Waits().on("the data"):
        pass
