"""docs/results.md: every command is one that this version takes."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from test_docs import ROOT, commands

from coordinator.experiments.method_comparison import METHODS
from coordinator.job.resolve import resolve
from coordinator.job.spec import assignment, merge

RESULTS = ROOT / "docs" / "results.md"
COMPARED = [words for words in commands(RESULTS) if words[:2] == ["errorcast", "compare"]]
HAD = ("digits", "cora", "citeseer", "movielens", "tiny-shakespeare", "nerf")


@pytest.mark.parametrize("words", COMPARED, ids=shlex.join)
def test_each_comparison_can_be_run(words: list[str], real_data: Path) -> None:
    """Every method's job is made and checked; that the figures are so takes hours."""
    task, given = words[2], dict(pairwise(words))
    assert task.startswith(HAD)
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    settings = merge({"data_dir": str(real_data)}, *(assignment(text) for text in sets))
    methods = given["--methods"].split(",")
    assert int(given["--seeds"]) >= 1
    for method in methods:
        job = resolve(task, merge(settings, METHODS[method]))
        assert job.task.splits().test is not None


def test_there_are_results() -> None:
    assert {words[2].partition("-")[0] for words in COMPARED} >= {"digits", "cora", "movielens"}
