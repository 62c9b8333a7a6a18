"""`errorcast compare`: several methods and seeds of one task."""

import json
from pathlib import Path

import pytest
from support.command_line import run_errorcast

from coordinator.experiments.method_comparison import METHODS, common_looks, compare_methods
from dfa_core import JobError

ARGUMENTS = (
    *("compare", "digits", "--methods", "bp,dfa,shallow", "--seeds", "2", "--epochs", "2"),
    *("--blocks", "1"),
    # a checkpoint of each best epoch, besides those for the looks
    *("--set", "options.width=32", "--set", "stopping.metric=accuracy"),
    *("--alignment", "--out", "both", "--format", "json"),
)


@pytest.mark.timeout(240)
def test_it_trains_each_once_and_writes_what_came_of_it(a_ray: None, tmp_path: Path) -> None:
    done = run_errorcast(*ARGUMENTS, cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found == json.loads((tmp_path / "both" / "compare.json").read_text())
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == ["bp", "dfa", "shallow"]
    for method, row in rows.items():
        accuracies = [seed["test"]["accuracy"] for seed in row["seeds"]]
        assert row["test"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
        for seed, accuracy in enumerate(accuracies):
            result = json.loads(
                (tmp_path / "both" / f"{method}-{seed}" / "result.json").read_text()
            )
            assert result["metrics"]["accuracy"] == accuracy
    assert rows["bp"]["alignment"] == rows["shallow"]["alignment"] == []
    for looks in rows["dfa"]["alignment"]:
        steps = [look["step"] for look in looks]
        assert steps[0] == 0
        assert steps[-1] == 44
        assert len(steps) >= 10
        assert all(-1 <= cosine <= 1 for look in looks for cosine in look["layers"].values())
        first, last = (sum(looks[i]["layers"].values()) for i in (0, -1))
        assert last > first  # the layers learn to make use of their feedback
    for picture in ("compare.png", "alignment-dfa.png"):
        assert (tmp_path / "both" / picture).read_bytes()[:4] == b"\x89PNG"

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "both").glob("*/result.json")}
    again = run_errorcast(*ARGUMENTS[:-2], cwd=tmp_path)  # as a table: nothing is trained
    assert again.code == 0, again.err
    assert "alignment with the exact gradient" in again.out
    assert f"{rows['dfa']['test']['accuracy']['mean']:.4f}" in again.out
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_seeds_that_stopped_early_are_compared_as_far_as_all_came() -> None:
    long = [(step, [("layer 0", step / 100)]) for step in (0, 10, 20, 30)]
    assert common_looks([long, long[:3], [long[0], *long[2:]]]) == [[long[0], long[2]]] * 3
    assert common_looks([]) == []


def test_unknown_methods_are_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"--methods: unknown 'dfa-identty'; .*dfa-identity"):
        compare_methods("digits", ["dfa-identty"], 1, {}, tmp_path, aligned=False, report=print)
    with pytest.raises(JobError, match="--seeds: 0 must be at least 1"):
        compare_methods("digits", ["dfa"], 0, {}, tmp_path, aligned=False, report=print)


def test_the_help_names_every_method() -> None:
    shown = run_errorcast("compare", "--help", COLUMNS="200").out
    assert f"Any of: {', '.join(sorted(METHODS))}." in shown
