import pytest

from benchmarks.rounds import quartiles, rounds_parser


def test_quartiles_of_one_round_and_of_several() -> None:
    assert quartiles([1.5]) == "1.50 (1.50 to 1.50)"
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == "3.00 (1.50 to 4.50)"
    assert quartiles([0.01, 0.01], ".1%") == "1.0% (1.0% to 1.0%)"


@pytest.mark.parametrize("wrong", ["0", "-1", "many"])
def test_at_least_one_round_is_measured(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        rounds_parser("A benchmark.", 6, 4).parse_args(["--rounds", wrong])
    assert "argument --rounds: " in capsys.readouterr().err
