"""The figures of bench.json, from measurements that are written down here."""

from datetime import date
from pathlib import Path

import pytest
from support.networks import NETWORKS, Noise, rule
from torch import nn

from dfa_core import profile
from dfa_speedup.comparison import to_measure
from dfa_speedup.measured import Measured, Measurements
from dfa_speedup.peers import ERRORCAST, LIMIT_BP, LIMIT_DFA, LIMIT_DFA_LOADED, ONE_PROCESS
from dfa_speedup.results.headline import headline
from dfa_speedup.results.markdown import write_markdown
from dfa_speedup.results.peak import mfu
from dfa_speedup.results.report import rows, summary
from dfa_speedup.workload import Configuration, Workload

LOSS = nn.functional.cross_entropy


@pytest.fixture
def workload() -> Workload:
    measured = profile(NETWORKS["mlp"], LOSS, rule(), *Noise().batch(0))
    return Workload(NETWORKS["mlp"], LOSS, rule(), lambda _: None, 24, measured)  # type: ignore[arg-type, return-value]


@pytest.fixture
def found(workload: Workload) -> Measurements:
    """Two blocks; errorcast takes 10 ms, 1F1B about twice that; the rest cannot run."""
    made = to_measure(workload, 2, [2, 4])
    for side in made.sides:
        name, m = side.configuration.schedule, side.configuration.microbatches
        if name == ERRORCAST:
            side.tried, side.rounds = [0.010 * m / 2] * 3, [[0.010 * m / 2] * 3] * 2
        elif name == "1F1B":
            side.tried, side.rounds = [0.020] * 3, [[0.020] * 3] * 2
            side.ratios = [1.9, 2.0, 2.1] if m == 2 else []
        else:
            side.reason = "out of memory"
    made.limits = [
        Measured(Configuration(name, 2), rounds=[[seconds] * 3], ratios=[seconds / 0.010])
        for name, seconds in ((LIMIT_DFA, 0.016), (LIMIT_DFA_LOADED, 0.018), (LIMIT_BP, 0.030))
    ]
    return made


def test_speedup_and_efficiency_are_of_the_ratios(workload: Workload, found: Measurements) -> None:
    by_side = {(r["schedule"], r["microbatches"]): r for r in rows(workload, found)}
    ours, theirs = by_side[ERRORCAST, 2], by_side["1F1B", 2]
    assert (ours["speedup"], ours["step_ms"], ours["best"]) == (1.0, 10.0, True)
    assert ours["efficiency"] == pytest.approx(0.016 / 2 / 0.010)
    assert [theirs[k] for k in ("speedup", "speedup_low", "speedup_high")] == [2.0, 1.95, 2.05]
    assert theirs["efficiency"] == pytest.approx(0.030 / 2 / 0.020)
    assert by_side[ERRORCAST, 4]["speedup"] == pytest.approx(2.0)  # of the trial alone
    assert not by_side[ERRORCAST, 4]["best"]
    refused = by_side[ONE_PROCESS, 1]
    assert (refused["reason"], refused["step_ms"]) == ("out of memory", None)


def test_the_summary_omits_what_could_not_run(workload: Workload, found: Measurements) -> None:
    sums = summary(workload, found)
    assert sums["efficiency"] == pytest.approx(0.8)
    assert sums["efficiency_loaded"] == pytest.approx(0.9)
    assert (sums["limit_ms"], sums["best_pipeline"]) == (8.0, "1F1B")
    assert sums["speedup_over_best_pipeline"] == 2.0
    assert sums["speedup_over_delayed_backpropagation"] is None
    assert sums["speedup_of_dfa_in_one_process"] is None
    found.limits[0] = Measured(Configuration(LIMIT_DFA, 2), reason="out of memory")
    sums = summary(workload, found)
    assert (sums["limit_ms"], sums["efficiency"]) == (None, None)
    assert rows(workload, found)[0]["efficiency"] is None


def test_the_headline_is_a_sentence_for_either_winner(
    workload: Workload, found: Measurements
) -> None:
    def said() -> str:
        return headline({"summary": summary(workload, found), "rows": rows(workload, found)})

    assert said() == (
        "On the same 2 workers, errorcast trains a step 2.00 times as fast as the best pipeline of "
        "backpropagation (1F1B; quartiles 1.95 to 2.05)."
    )
    theirs = next(side for side in found.sides if side.ratios)
    theirs.ratios = [0.5] * 3
    assert "is slower than the best pipeline of backpropagation: its step takes 2.00" in said()
    theirs.tried = []
    theirs.ratios = []
    assert said().startswith("No pipeline of backpropagation was measured")


def test_the_report_has_the_form_of_torchtitans(
    tmp_path: Path, workload: Workload, found: Measurements
) -> None:
    machine = {
        "cpu": "A CPU @ 2 GHz",
        "cores": 2,
        "memory_gib": 24,
        "gpus": ["NVIDIA H100 80GB HBM3, 81559 MiB, 700.00 W"],
        "system": "Linux",
        "python": "3.11",
        "versions": {"torch": "2.13.0"},
    }
    results = {
        "task": "docs/mytask.py:make_task",
        "command": "errorcast bench",
        "machine": machine,
        "summary": summary(workload, found),
        "rows": rows(workload, found),
    }
    cells = [["1F1B", "2|x"]]
    path = write_markdown(tmp_path, results, ("schedule", "M"), cells, date(2026, 1, 2))
    assert path.name == "mytask.py-make-task_nvidia-h100-80gb-hbm3_20260102.md"
    text = path.read_text()
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == ["### Models", "### Hardware", "### Results", "### Versions and Dates"]
    for part in ("700.00 W", "| 1F1B | 2\\|x |", "| torch | 2.13.0 | 2026-01-02 |", "2.00 times"):
        assert part in text


def test_operations_are_counted_for_each_worker(workload: Workload, found: Measurements) -> None:
    found.flops = {"dfa": 40_000_000, "bp": 60_000_000}
    by_side = {(r["schedule"], r["microbatches"]): r for r in rows(workload, found)}
    assert by_side[ERRORCAST, 2]["gflops_per_s_a_worker"] == pytest.approx(0.04 / 0.010 / 2)
    assert by_side["1F1B", 2]["gflops_per_s_a_worker"] == pytest.approx(0.06 / 0.020 / 2)
    assert by_side["1F1B", 2]["samples_per_s_a_worker"] == pytest.approx(24 / 0.020 / 2)


def test_mfu_is_a_share_of_the_gpus_peak() -> None:
    gpu = "NVIDIA H100 80GB HBM3, 81559 MiB, 700.00 W"
    assert mfu(494_700.0, gpu, "bf16") == 0.5
    assert mfu(494_700.0, None, "bf16") is None
    assert mfu(494_700.0, "another", "bf16") is None
    assert mfu(None, gpu, "bf16") is None
