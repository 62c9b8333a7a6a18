"""The targets of the project's own board, and what a file of targets may not say."""

from pathlib import Path

import pytest
from support.command_line import run_errorcast

from coordinator.experiments.leaderboard.page import tables
from coordinator.experiments.leaderboard.result import Results
from coordinator.experiments.leaderboard.targets import KINDS, OURS, chosen, read_targets
from coordinator.job.spec import to_settings
from dfa_core import JobError

ROOT = Path(__file__).parents[4]
NAMES = ("fashion-mnist", "tiny-shakespeare", "nerf-lego", "cora", "movielens")


def test_every_contender_of_ours_is_a_job_that_can_run(all_data: Path) -> None:
    targets = read_targets(OURS)
    assert tuple(targets) == NAMES
    for target in targets.values():
        entrants = [target.entrant(name) for name in target.entrants]
        assert {entrant.kind for entrant in entrants} <= {*KINDS}
        assert any(entrant.by_torch for entrant in entrants)
        jobs = [target.job(entrant, 0, {"data_dir": str(all_data)}) for entrant in entrants]
        assert len({len(job.model.layers) for job in jobs}) == 1  # all train the same network
        assert {job.settings.blocks for job in jobs} == {target.workers}


def test_the_help_names_every_target() -> None:
    shown = " ".join(run_errorcast("leaderboard", "--help", COLUMNS="250").out.split())
    assert f"{', '.join(NAMES)}." in shown


def test_lines_are_of_the_settings_that_the_targets_have(all_data: Path) -> None:
    targets = read_targets(OURS)
    where = ("data_dir", "resources", "working_dir")
    for table in tables(targets, Results(ROOT / "docs" / "leaderboard")):
        for line in table.lines:
            given = {"data_dir": str(all_data)}
            now = to_settings(table.target.job(line.entrant, 0, given).spec)
            then = line.result.job
            assert {k: v for k, v in now.items() if k not in where} == {
                k: v for k, v in then.items() if k not in where
            }, f"{line.result.target}-{line.entrant.name}: run this line again"


GOOD = """
a:
  title: A
  task: digits
  score: accuracy
  bounds: [0.5]
  every: 1
  seeds: 1
  workers: 2
  microbatches: [2]
  entrants: {dfa: {}}
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("bounds: [0.5]", "bounds: [0.9, 0.5]", "a: .*the easiest first"),
        ("every: 1", "every: 0", "each must be at least 1"),
        ("every: 1", "evry: 1", "a.*evry|a.*every"),
        ("seeds: 1", "seeds: x", "a.seeds: .*valid integer"),
    ],
)
def test_a_wrong_file_is_one_line(before: str, after: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(GOOD.replace(before, after), encoding="utf-8")
    with pytest.raises(JobError, match=message) as raised:
        read_targets(file)
    assert "\n" not in str(raised.value)


def test_unknown_names_are_named(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(GOOD.replace("dfa: {}", "mine: {kind: dfaa}"), encoding="utf-8")
    targets = read_targets(file)
    with pytest.raises(JobError, match="entrant mine: unknown kind 'dfaa'; did you mean dfa"):
        targets["a"].entrant("mine")
    with pytest.raises(JobError, match="unknown target 'b'"):
        chosen(targets, ["b"])
    file.write_text(GOOD.replace("accuracy", "bleu"), encoding="utf-8")
    target = read_targets(file)["a"]
    with pytest.raises(JobError, match="score: task 'digits' has no 'bleu'"):
        target.job(target.entrant("dfa"), 0, {})
