"""The page of a board: who is first, who never got there, and where each line comes from."""

from pathlib import Path
from typing import Any

import pytest
from support.command_line import run_errorcast

from coordinator.experiments.leaderboard.page import GUIDE, headline, page, tables
from coordinator.experiments.leaderboard.result import (
    Evaluated,
    Origin,
    Result,
    Results,
    SeedRun,
)
from coordinator.experiments.leaderboard.targets import OURS, Target, read_targets
from dfa_core import JobError
from dfa_speedup.workload import Configuration

DOCS = Path(__file__).parents[4] / "docs"
MACHINE = {
    "cores": 2,
    "cpu": "Some CPU",
    "gpus": [],
    "versions": {"torch": "2.13", "errorcast": "0"},
}
ENTRANTS: dict[str, dict[str, Any]] = {
    name: {} for name in ("dfa", "dfa-identity", "bp", "pipeline", "one-process", "shallow")
}


def target(score: str, *bounds: float) -> Target:
    return Target("A title", "digits", score, bounds, 10, 3, 2, (2,), ENTRANTS)


def runs(score: str, *seeds: list[float]) -> list[SeedRun]:
    """Return a run for each list of scores: an evaluation every 10 steps, one second apart."""
    return [
        SeedRun(seed, [Evaluated(10 * i, float(i), {score: v}) for i, v in enumerate(values, 1)])
        for seed, values in enumerate(seeds)
    ]


def write(folder: Path, of: Target, name: str, done: list[SeedRun], **more: Any) -> None:
    origin = Origin("abc", more.pop("changed", False), MACHINE | more.pop("machine", {}))
    configuration = Configuration("1F1B" if name == "pipeline" else "errorcast", 2)
    facts = of.score, of.bounds, of.every, of.seeds, of.workers
    Results(folder).write(
        Result(
            *(1, "t", name, name, {}, *facts, origin, "2026-11-29", f"run {name}", []),
            more.pop("configuration", configuration),
            done,
            **more,
        )
    )


def test_the_fastest_is_first_and_the_others_follow(tmp_path: Path) -> None:
    one = target("accuracy", 0.5, 0.8)
    write(tmp_path, one, "dfa", runs("accuracy", [0.4, 0.6, 0.9], [0.6], [0.4, 0.4, 0.4]))
    write(tmp_path, one, "pipeline", runs("accuracy", *[[0.1, 0.2, 0.6, 0.8]] * 3), changed=True)
    write(tmp_path, one, "shallow", runs("accuracy", *[[0.1, 0.3]] * 3))
    write(tmp_path, one, "bp", [], failed="a | b", configuration=None)
    write(tmp_path, one, "dfa-identity", runs("accuracy", [0.4, 0.45]))
    easy, hard = tables({"t": one}, Results(tmp_path))
    assert [line.entrant.name for line in easy.lines] == [
        *("dfa", "pipeline", "dfa-identity", "shallow", "bp")
    ]
    assert easy.lines[0].reached is not None
    assert (easy.lines[0].reached.seconds, easy.lines[0].reached.steps) == (2, 20)
    assert hard.lines[0].entrant.name == "pipeline"
    assert "| reached by 1 of 3 seeds: best 90% in 3.0 s |" in page([hard], "board")
    said = headline([easy, hard])
    assert "first on 1 of 2 targets: t to accuracy 50% (`dfa`)." in said
    assert "Backpropagation is first on 1: t to accuracy 80% (`pipeline`)." in said
    text = page([easy, hard], "board")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2] == (
        "| **1** | **[dfa](board/t-dfa.json): random feedback, M 2** | errorcast "
        "| **2.0 (2 of 3 seeds)** | 20 | 2 | abc | 2026-11-29 |"
    )
    assert "backpropagation in a pipeline, 1F1B, M 2 | torch | 3.0 | 30 |" in rows[3]
    assert "| abc and changes |" in rows[3]
    assert "| not reached: best 45% in 2.0 s; 1 of 3 seeds so far |" in rows[4]
    assert "| not reached: best 30% in 2.0 s |" in rows[5]
    assert "| failed: a / b |" in rows[6]
    assert text.count("```sh\nrun dfa\nrun pipeline\n") == 1


def test_one_machine_is_named_above_the_table_and_several_in_a_column(tmp_path: Path) -> None:
    one = target("loss", 1.5)
    write(tmp_path, one, "bp", runs("loss", [1.4]))
    write(tmp_path, one, "dfa", runs("loss", [1.0, 1.2]))
    text = page(tables({"t": one}, Results(tmp_path)), "board")
    assert text.count("2 cores, Some CPU, torch 2.13") == 1
    assert "\n\nMachine of all rows: 2 cores, Some CPU, torch 2.13.\n\n|" in text
    assert "| steps | workers | commit | date |" in text
    write(tmp_path, one, "dfa", runs("loss", [1.0, 1.2]), machine={"cores": 4})
    text = page(tables({"t": one}, Results(tmp_path)), "board")
    assert "Machine of all rows" not in text
    assert "| steps | workers | machine | commit | date |" in text
    assert "| 2 | 4 cores, Some CPU, torch 2.13 | abc | 2026-11-29 |" in text
    assert "| 2 | 2 cores, Some CPU, torch 2.13 | abc | 2026-11-29 |" in text


def test_a_loss_falls_and_nan_reaches_nothing(tmp_path: Path) -> None:
    one = target("loss", 1.5)
    write(tmp_path, one, "bp", runs("loss", *[[2.0, 1.4]] * 3))
    write(tmp_path, one, "one-process", runs("loss", *[[1.5]] * 3))
    never = [SeedRun(seed, [Evaluated(10, 1.0, {"loss": None})]) for seed in range(3)]
    write(tmp_path, one, "dfa", never)
    (table,) = tables({"t": one}, Results(tmp_path))
    assert [line.reached is not None for line in table.lines] == [True, True, False]
    said = headline([table])
    assert "first on 0 of 1 targets." in said
    assert (
        "Where one process is first, the fastest on several processes is: t to loss 1.5 (`bp`)."
        in said
    )
    only = target("loss", 0.1)
    write(tmp_path, only, "bp", runs("loss", *[[2.0, 1.4]] * 3))
    assert "Nobody has reached t to loss 0.1." in headline(tables({"t": only}, Results(tmp_path)))


def test_lines_of_an_earlier_target_are_skipped_and_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path, target("loss", 1.5), "bp", runs("loss", [1.0]))
    now = {"t": target("loss", 1.2)}
    assert tables(now, Results(tmp_path)) == []
    assert headline([]) == "No line has been run yet."
    (tmp_path / "t-dfa.json").write_text("{", encoding="utf-8")
    with pytest.raises(JobError, match=r"t-dfa.json cannot be read: .*; remove it to run it again"):
        tables(now, Results(tmp_path))


def test_our_page_is_made_of_our_result_files() -> None:
    made = page(tables(read_targets(OURS), Results(DOCS / "leaderboard")), "leaderboard", GUIDE)
    there = (DOCS / "leaderboard.md").read_text(encoding="utf-8")
    assert there == made, "make it again: errorcast leaderboard --dir docs/leaderboard"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fashion"], "leaderboard: unknown target 'fashion'; did you mean fashion-mnist"),
        (["cora", "--methods", "dfa-identty"], "--methods: unknown 'dfa-identty'; did you mean"),
        (["--targets", "none.yaml"], "none.yaml: cannot be read"),
        (["cora", "--dir", "file/board"], "file/board cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = run_errorcast("leaderboard", *arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert message in done.err
    assert done.err.count("\n") == 1, done.err
