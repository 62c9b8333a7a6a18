"""Results and experiments: every comparison is one that this version takes, on data that it has.

The summaries say what the pages say.
"""

import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from support.documents import EXPERIMENTS, RESULTS, ROOT, Command, commands

from coordinator.job.resolve import resolve

SHOWN = [words for page in (*RESULTS, EXPERIMENTS) for words in commands(page, "errorcast")]
COMPARED = [w for w in {tuple(words): words for words in SHOWN}.values() if w[1] == "compare"]
HAD = ("digits", "cora", "citeseer", "movielens", "tiny-shakespeare", "nerf", "fashion")


@cache
def has_test_data(task: str, options: str, data_dir: str) -> bool:
    """Load a task's data once, as all methods train on the same; options: as JSON."""
    made = {"options": json.loads(options), "data_dir": data_dir}
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
        assert has_test_data(spec.task, json.dumps(dict(spec.options)), spec.data_dir)


def test_there_are_results() -> None:
    assert {words[2].partition("-")[0] for words in COMPARED} >= {"digits", "cora", "movielens"}


@pytest.mark.parametrize("page", RESULTS[1:], ids=lambda page: page.stem)
def test_each_family_shows_how_to_repeat_it(page: Path) -> None:
    assert "compare" in {words[1] for words in commands(page, "errorcast")}


@pytest.mark.parametrize("index", ["results", "performance"])
def test_a_summary_has_the_figures_of_its_pages(index: str) -> None:
    text = (ROOT / "docs" / f"{index}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|(.*)\| \[[^]]*\]\((\w+/[\w-]+\.md)\) \|$", text, re.M)
    assert len(rows) > 10
    for row, page in rows:
        there = figures((ROOT / "docs" / page).read_text(encoding="utf-8"))
        assert figures(row)
        assert figures(row) - there == set(), page


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*(?: ± \d+\.\d+)?", text))
