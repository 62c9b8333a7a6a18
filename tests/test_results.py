"""Results and experiments: every comparison is one that this version takes, on data that it has."""

import json
import shlex
from functools import cache
from pathlib import Path

import pytest
from support.documents import EXPERIMENTS, RESULTS, Command, commands

from coordinator.job.resolve import resolve

SHOWN = [*commands(RESULTS, "errorcast"), *commands(EXPERIMENTS, "errorcast")]
COMPARED = [w for w in {tuple(words): words for words in SHOWN}.values() if w[1] == "compare"]
HAD = ("digits", "cora", "citeseer", "movielens", "tiny-shakespeare", "nerf", "fashion")


@cache
def has_test_data(task: str, method: str, options: str, data_dir: str) -> bool:
    """Load a task's data once, however many comparisons train on it; options: as JSON."""
    made = {"method": method, "options": json.loads(options), "data_dir": data_dir}
    return resolve(task, made).task.splits().test is not None


@pytest.mark.parametrize("words", COMPARED, ids=shlex.join)
def test_each_comparison_can_be_run(words: list[str], all_data: Path) -> None:
    """Every method's job is made and checked; that the figures are so takes hours."""
    command = Command.parse(words)
    assert command.given["task"].startswith(HAD)
    jobs = command.jobs(data_dir=str(all_data))
    assert len(jobs) == len(command.given["methods"].split(","))
    for job in jobs:
        spec = job.settings
        assert has_test_data(spec.task, job.method, json.dumps(dict(spec.options)), spec.data_dir)


def test_there_are_results() -> None:
    assert {words[2].partition("-")[0] for words in COMPARED} >= {"digits", "cora", "movielens"}
