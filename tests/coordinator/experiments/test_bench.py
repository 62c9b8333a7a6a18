"""`errorcast bench` and `errorcast plan`, run as people run them, at a small size."""

import json
from pathlib import Path

import pytest
from support.command_line import run_errorcast

from coordinator.cli.units import bits_per_second, doubling, seconds
from coordinator.experiments.contender import Contender
from coordinator.experiments.race import Target
from coordinator.job.resolve import resolve
from coordinator.planning.workload import timing_workload
from dfa_core import JobError
from dfa_speedup.peers import ERRORCAST, ONE_PROCESS_DFA, OWN, PEERS

SMALL = ("--width", "48", "--batch-size", "32", "--rounds", "1", "--steps", "1")


@pytest.mark.timeout(240)
def test_bench_measures_every_side_and_writes_what_it_found(a_ray: None, tmp_path: Path) -> None:
    settings = ("--microbatches", "2,4", "--set", "resources.head=coordinator", "--report-md")
    done = run_errorcast("bench", *SMALL, *settings, "--out", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
    rows = found["rows"]
    assert [row["schedule"] for row in rows if row["best"]] == [*OWN, *PEERS, ONE_PROCESS_DFA]
    for row in rows:
        figures = [row[k] for k in ("step_ms", "speedup", "efficiency", "peak_memory_mb")]
        if row["reason"]:
            assert figures == [None] * 4
        else:
            assert all(figure > 0 for figure in figures), row
            assert row["step_ms_low"] <= row["step_ms"] <= row["step_ms_high"]
            assert row["samples_per_s"] == pytest.approx(32e3 / row["step_ms"], rel=1e-3)
    ours = next(row for row in rows if row["schedule"] == ERRORCAST and row["best"])
    assert ours["speedup"] == 1
    # inputs, two activations and two errors a sample, each of 4 bytes a feature: the head is with
    # the coordinator, since where measuring would put it is not known before
    assert ours["bytes_per_step"] == 32 * 4 * (48 + 48 + 48 + 10 + 10)
    refused = {(r["schedule"], r["microbatches"]): r["reason"] for r in rows if r["reason"]}
    assert refused == {("DualPipeV", 2): "needs at least 4 microbatches"}
    assert found["command"].startswith("errorcast bench --width 48")
    assert found["machine"]["cores"] >= 1
    (report,) = (tmp_path / "out").glob("mlp_*_*.md")
    assert found["command"] in report.read_text(encoding="utf-8")
    # 2 operations an element of each product: of 8 layers and the head the forward and the gradient
    # of the weights, and e times B of each layer
    elements = 32 * (2 * (8 * 48 * 48 + 48 * 10) + 8 * 10 * 48)
    of_step = ours["gflops_per_s_a_worker"] * 2 * ours["step_ms"] * 1e6
    assert of_step == pytest.approx(2 * elements, rel=0.01)
    trace = json.loads((tmp_path / "out" / "timeline.json").read_text(encoding="utf-8"))
    kinds = {event["name"] for event in trace["traceEvents"]}
    assert {"forward", "update", "backward", "optimizer", "broadcast"} <= kinds
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert found["command"] in page
    for text in ("errorcast", "ZBV zero bubble", "speedup"):
        assert text in done.out


@pytest.mark.endurance
@pytest.mark.timeout(240)
def test_time_to_accuracy_trains_both_sides_to_it(a_ray: None, tmp_path: Path) -> None:
    arguments = ("--rounds", "1", "--steps", "1", "--microbatches", "2", "--batch-size", "64")
    target = ("--width", "128", "--to-accuracy", "85", "--set", "epochs=8", "--out", "out")
    done = run_errorcast("bench", "digits", *arguments, *target, cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
    ours, theirs = found["race"]
    assert ours["schedule"] == ERRORCAST
    assert theirs["label"] == found["summary"]["best_pipeline"]
    for side in (ours, theirs):
        assert side["reached"]
        assert side["seconds"] > 0
        assert side["scores"][-1]["accuracy"] >= 0.85
        assert all(scores["accuracy"] < 0.85 for scores in side["scores"][:-1])


def test_each_contender_has_its_own_settings() -> None:
    ours = resolve("digits", {"epochs": 8})
    theirs = resolve("digits", {"epochs": 3, "optimizer": {"lr": 0.5, "schedule": "cosine"}})
    measured = timing_workload(ours, [2]).profile
    contenders = [Contender.of(job, measured, "accuracy", 0.9) for job in (ours, theirs)]
    assert [len(contender.criterion.stretches()) for contender in contenders] == [8, 3]
    assert [contender.workload.rule.optimizer.lr for contender in contenders] == [
        ours.spec.optimizer.lr,
        0.5,
    ]
    steps = contenders[1].criterion.every
    assert contenders[1].workload.rule.optimizer.total_steps == 3 * steps
    other = resolve("digits", {"options": {"layers": 5}})
    with pytest.raises(JobError, match="the pipeline's has 5 layers and errorcast's has 3"):
        Target("accuracy", 0.9, other).check(ours)
    with pytest.raises(JobError, match="--to-bleu: task 'digits' has no such score"):
        Target("bleu", 0.9, theirs).check(ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["bench", "--microbatches", "3"],
            "microbatches: 3 does not divide batch_size 512; 2 does",
        ),
        (["bench", "--microbatches", "2,x"], "microbatches: '2,x' must be whole numbers above 0"),
        (["bench", "--blocks", "9"], "blocks: 9 is not between 1 and the model's 8 layer(s)"),
        (["bench", "--width", "0"], "options.width: 0 is not a whole number above 0"),
        (["bench", "mpl"], "task: unknown 'mpl'; did you mean mlp"),
        (["bench", "--out", "file/out"], "--out file/out cannot be written"),
        (["bench", "--resume", "--out", "none"], "--resume: none holds no comparison"),
        (["plan", "--blocks", "0,2"], "blocks: '0,2' must be whole numbers above 0"),
        (["plan", "--link", "fast"], "link: 'fast' must be a number and a unit, such as 100Gb/s"),
        (["plan", "--latency", "5"], "latency: '5' must be a number and a unit, such as 5us"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = run_errorcast(*arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert message in done.err
    assert done.err.count("\n") == 1, done.err


@pytest.mark.parametrize(
    "doublings",
    [pytest.param(6, marks=pytest.mark.unit), pytest.param(10, marks=pytest.mark.endurance)],
)
def test_plan_goes_up_to_a_thousand_blocks(tmp_path: Path, doublings: int) -> None:
    blocks = f"1,2,4,...,{2**doublings}"
    done = run_errorcast("plan", "--width", "64", "--blocks", blocks, cwd=tmp_path)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    planned = {int(words[0]): words for words in lines if words and words[0].isdigit()}
    assert sorted(planned) == [2**i for i in range(doublings + 1)]
    assert "1F1B" in done.out
    said = " ".join(done.out.split())  # the terminal's width decides where lines end
    assert "Assumptions: each worker has a core or GPU as fast as this one." in said
    assert "Each schedule uses its best number of microbatches, up to 4 for each block." in said


@pytest.mark.unit
def test_plan_of_layers_that_send_tangents(tmp_path: Path) -> None:
    arguments = ("--set", "feedback.kind=forward", "--blocks", "1,2")
    done = run_errorcast("plan", "digits", *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "1F1B" in done.out


def test_numbers_and_units_as_people_write_them() -> None:
    assert doubling("blocks", "1,2,...,12") == [1, 2, 4, 8, 12]
    assert doubling("blocks", "3") == [3]
    assert bits_per_second("link", "25 Gb/s") == 25e9
    assert seconds("latency", "0.1ms") == pytest.approx(1e-4)
    with pytest.raises(JobError):
        seconds("latency", "-5us")
