"""The figures of bench.json, from measurements that are written down here."""

from types import SimpleNamespace

import pytest
from support.networks import NETWORKS, Noise, rule
from torch import nn

from dfa_core import profile
from dfa_speedup.comparison import Comparison, Measured
from dfa_speedup.peers import ERRORCAST, LIMIT_BP, LIMIT_DFA, LIMIT_DFA_LOADED, ONE_PROCESS
from dfa_speedup.results.report import rows, summary
from dfa_speedup.workload import Configuration, Workload

LOSS = nn.functional.cross_entropy


@pytest.fixture
def comparison() -> Comparison:
    """Two blocks; errorcast takes 10 ms, 1F1B twice that; the rest cannot run."""
    measured = profile(NETWORKS["mlp"], LOSS, rule(), *Noise().batch(0))
    workload = Workload(NETWORKS["mlp"], LOSS, rule(), lambda _: None, 24, measured)  # type: ignore[arg-type, return-value]
    two = SimpleNamespace(all=[1, 2])
    made = Comparison(workload, two, None, [2, 4], lambda *_: None)  # type: ignore[arg-type]
    for side in made.measured:
        name, m = side.configuration.schedule, side.configuration.microbatches
        if name == ERRORCAST:
            side.tried, side.rounds = [0.010 * m / 2] * 3, [[0.010 * m / 2] * 3] * 2
        elif name == "1F1B":
            side.tried, side.rounds = [0.020] * 3, [[0.020] * 3] * 2
            side.ratios = [2.0, 2.0] if m == 2 else []
        else:
            side.reason = "out of memory"
    made.limits = {
        name: Measured(Configuration(name, 2), rounds=[[seconds] * 3], ratios=[seconds / 0.010])
        for name, seconds in ((LIMIT_DFA, 0.016), (LIMIT_DFA_LOADED, 0.018), (LIMIT_BP, 0.030))
    }
    return made


def test_speedup_and_efficiency_are_of_the_ratios(comparison: Comparison) -> None:
    found = {(r["schedule"], r["microbatches"]): r for r in rows(comparison.workload, comparison)}
    ours, theirs = found[ERRORCAST, 2], found["1F1B", 2]
    assert (ours["speedup"], ours["step_ms"], ours["best"]) == (1.0, 10.0, True)
    assert ours["efficiency"] == pytest.approx(0.016 / 2 / 0.010)
    assert theirs["speedup"] == 2.0
    assert theirs["efficiency"] == pytest.approx(0.030 / 2 / 0.020)
    assert found[ERRORCAST, 4]["speedup"] == pytest.approx(2.0)  # of the trial alone
    assert not found[ERRORCAST, 4]["best"]
    refused = found[ONE_PROCESS, 1]
    assert (refused["reason"], refused["step_ms"]) == ("out of memory", None)


def test_the_summary_omits_what_could_not_run(comparison: Comparison) -> None:
    found = summary(comparison.workload, comparison)
    assert found["efficiency"] == pytest.approx(0.8)
    assert found["efficiency_loaded"] == pytest.approx(0.9)
    assert (found["limit_ms"], found["best_pipeline"]) == (8.0, "1F1B")
    assert found["speedup_over_best_pipeline"] == 2.0
    assert found["speedup_of_dfa_in_one_process"] is None
    comparison.limits[LIMIT_DFA] = Measured(Configuration(LIMIT_DFA, 2), reason="out of memory")
    found = summary(comparison.workload, comparison)
    assert (found["limit_ms"], found["efficiency"]) == (None, None)
    assert rows(comparison.workload, comparison)[0]["efficiency"] is None
