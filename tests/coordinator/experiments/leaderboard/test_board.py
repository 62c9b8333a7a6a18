"""A board's lines are run: each to the score, each once, and each for itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import run_errorcast

from coordinator.engine.data.prefetcher import Prefetcher
from coordinator.engine.evaluation import evaluate
from coordinator.engine.single_process import SingleProcess
from coordinator.experiments.leaderboard.board import Line, lines_of, run_lines
from coordinator.experiments.leaderboard.result import Result, Results
from coordinator.experiments.leaderboard.targets import read_targets
from dfa_core import Reference
from dfa_tasks.source import as_source

OWN = """
digits:
  title: Digits, 3 tanh layers of 128
  task: digits
  score: accuracy
  bounds: [0.7, 0.85]
  every: 10
  seeds: {seeds}
  workers: 2
  microbatches: [2]
  settings: {{epochs: 8, options: {{width: 128}}, optimizer: {{lr: 0.003}}}}
  entrants: {entrants}
"""


def targets_in(folder: Path, seeds: int, entrants: str) -> Path:
    file = folder / "own.yaml"
    file.write_text(OWN.format(seeds=seeds, entrants=entrants), encoding="utf-8")
    return file


def lines(file: Path) -> list[Line]:
    return lines_of(read_targets(file), None)


def run(file: Path, folder: Path, report: Callable[[str], None], again: bool = False) -> Result:
    results = Results(folder)
    run_lines(lines(file), results, {}, again, lambda line: f"run {line.entrant.name}", report)
    found = results.read("digits", "dfa")
    assert found is not None
    return found


@pytest.mark.timeout(240)
def test_an_interrupted_line_goes_on_and_has_the_scores_of_the_reference(
    a_ray: None, tmp_path: Path
) -> None:
    file, folder = targets_in(tmp_path, 2, "{dfa: {}}"), tmp_path / "out"
    folder.mkdir()

    def interrupt(text: str) -> None:
        if "seed 1: step 10" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(file, folder, interrupt)
    before = Results(folder).read("digits", "dfa")
    assert before is not None
    assert not before.finished
    (first,) = before.runs
    reported: list[str] = []
    found = run(file, folder, reported.append)
    assert found.finished
    assert found.runs[0] == first
    assert not [text for text in reported if "seed 0" in text]
    assert [run.seed for run in found.runs] == [0, 1]
    for each in found.runs:
        steps = [one.step for one in each.evaluations]
        assert steps == list(range(10, steps[-1] + 1, 10))
        seconds = [one.seconds for one in each.evaluations]
        assert seconds == sorted(set(seconds))
        assert all((one.scores["accuracy"] or 0) < 0.85 for one in each.evaluations[:-1])
        assert (each.evaluations[-1].scores["accuracy"] or 0) >= 0.85
    assert [one.scores for one in found.runs[1].evaluations] == reference_scores(file, 1, found)

    reported.clear()
    assert run(file, folder, reported.append) == found
    assert reported == ["digits, dfa: has a result already"]


def reference_scores(file: Path, seed: int, found: Result) -> list[dict[str, float]]:
    """Return what training in this process gives at the same steps."""
    (line,) = lines(file)
    job = line.target.job(line.entrant, seed, {})
    splits, settings = job.splits(), job.settings
    source = as_source(splits.train, settings.batch_size, seed)
    prefetcher = Prefetcher(source, settings.batch_size, settings.microbatches)
    rule = job.rule(source.steps_per_epoch)
    engine = SingleProcess(Reference(job.model, job.task.weighted_loss, rule), prefetcher)
    engine.settle_loss()
    scores, step = [], 0
    for one in found.runs[seed].evaluations:
        engine.train(step, one.step, lambda *_: None)
        step = one.step
        scores.append(evaluate(engine, job.task, splits.test, seed))
    prefetcher.close()
    return scores


@pytest.mark.timeout(240)
def test_the_command_races_a_pipeline_and_a_failing_line_costs_itself_alone(
    a_ray: None, tmp_path: Path
) -> None:
    entrants = "{broken: {kind: dfa, optimizer: {lr: 1.0e38}}, pipeline: {}}"
    file = targets_in(tmp_path, 1, entrants)
    arguments = ("leaderboard", "digits", "--targets", file.name, "--format", "json")
    done = run_errorcast(*arguments, "--dir", "board", cwd=tmp_path)
    assert done.code == 0, done.err
    easy, hard = json.loads(done.out)
    assert (easy["bound"], hard["bound"]) == (0.7, 0.85)
    for table in (easy, hard):
        first, last = table["lines"]
        assert (first["method"], first["run_by"], first["rule_of_errorcast"]) == (
            *("pipeline", "torch"),
            False,
        )
        assert first["reached"]["steps"] % 10 == 0
        assert first["reached"]["seconds"] > 0
        assert last["method"] == "broken"
        assert last["reached"] is None
        assert "the loss is nan at step" in last["failed"]
    assert easy["lines"][0]["reached"]["steps"] <= hard["lines"][0]["reached"]["steps"]
    page = (tmp_path / "board.md").read_text(encoding="utf-8")
    command = "errorcast leaderboard digits --methods pipeline --dir board --targets own.yaml"
    assert command in page
    assert "| failed: " in page
    written = Results(tmp_path / "board").read("digits", "pipeline")
    assert written is not None
    assert written.command == command
    assert written.configuration is not None
    fastest = min(one.step_ms for one in written.tried if one.step_ms is not None)
    chosen = next(one for one in written.tried if one.configuration == written.configuration)
    assert chosen.step_ms == fastest
    # without a target, nothing runs, and the page is made again
    (tmp_path / "board.md").unlink()
    shown = run_errorcast("leaderboard", "--targets", file.name, "--dir", "board", cwd=tmp_path)
    assert (shown.code, shown.err) == (0, "")
    assert "Backpropagation is first on 2" in " ".join(shown.out.split())
    assert (tmp_path / "board.md").read_text(encoding="utf-8") == page
