"""A comparison keeps what it has measured when a side fails or somebody stops it; no workers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks import NETWORKS, SAMPLES, Noise, rule
from torch import nn

from coordinator.experiments.bench import results, write_results
from coordinator.experiments.tables import bench_table
from coordinator.planning.workload import open_prefetcher
from dfa_core import JobError, profile, split
from dfa_speedup.bench_worker import Trained
from dfa_speedup.bench_workers import PeerFailed
from dfa_speedup.comparison import Comparison, Trial
from dfa_speedup.peers import ERRORCAST, LIMIT_BP, ONE_PROCESS
from dfa_speedup.simulation.costs import Costs, LayerCost
from dfa_speedup.simulation.link import Link
from dfa_speedup.simulation.shape import Shape
from dfa_speedup.workload import Configuration, Workload
from workers.trace import Span

M, STEPS = 4, 2
LOSS = nn.functional.cross_entropy
Trouble = Callable[[str, int], None]


def a_workload() -> Workload:
    model, r = NETWORKS["mlp"], rule("sgd", M)
    x, target = (split(part, M)[0] for part in Noise().batch(0))
    measured = profile(model, LOSS, r, x, target)

    def batches(m: int) -> Any:
        return open_prefetcher(Noise(), SAMPLES, m)

    return Workload(model, LOSS, r, batches, SAMPLES, measured)


SHAPE = Shape(2, 1, "block")


class Sides:
    """Stands in for the workers and for errorcast: every step takes 10 ms, until `trouble`."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble, self.all = trouble, [None, None]
        self.calls: dict[str, int] = {}

    def _calls(self, schedule: str) -> None:
        self.calls[schedule] = self.calls.get(schedule, 0) + 1
        self._trouble(schedule, self.calls[schedule])

    def _trained(self, steps: int) -> list[Trained]:
        spans = [Span("forward", step, 0, 0.01 * step, 0.01 * step + 0.01) for step in range(steps)]
        return [Trained([0.01] * steps, [], spans)] * 2

    def train(self, configuration: Configuration, first: int, last: int) -> list[Trained]:
        self._calls(configuration.schedule)
        return self._trained(last - first)

    def prepare(self, configuration: Configuration, steps: int) -> tuple[list[Trained], float]:
        return self.train(configuration, 0, steps), 1.0

    def costs(self, microbatches: int) -> Costs:
        self._calls("costs")
        each = LayerCost(*[1e-3] * 6)
        layers = len(NETWORKS["mlp"].layers)
        return Costs(SAMPLES // microbatches, (each,) * layers, each)

    def link(self) -> Link:
        self._calls("link")
        return Link(1e-5, 1e9)

    def forget(self) -> None:
        pass

    def trial(self, _: Any, side: Configuration, steps: int) -> Trial:
        self._calls(side.schedule)
        return Trial([0.01] * (steps - 1), [], [t.spans for t in self._trained(steps)], 0, SHAPE)

    def first_trial(self, _: Any, side: Configuration, steps: int) -> tuple[Trial, float]:
        return self.trial(_, side, steps), 1.0


def compared(trouble: Trouble) -> tuple[Comparison, dict[str, Any]]:
    sides: Any = Sides(trouble)
    comparison = Comparison(a_workload(), sides, sides, [M], lambda *_: None)
    comparison.run(rounds=3, steps=STEPS)
    return comparison, results("a task", comparison)


def at(schedule: str, call: int, error: BaseException) -> Trouble:
    def trouble(called: str, number: int) -> None:
        if (called, number) == (schedule, call):
            raise error

    return trouble


def assert_shown(tmp_path: Path, comparison: Comparison, found: dict[str, Any]) -> None:
    """Its table and all of its files can be made, whatever is missing."""
    assert bench_table(found, every=True)
    write_results(tmp_path, {**found, "command": "errorcast bench"}, comparison)
    kept = json.loads((tmp_path / "bench.json").read_text(), parse_constant=pytest.fail)
    assert kept["rows"] == found["rows"]


@pytest.mark.blocks
@pytest.mark.parametrize(
    ("schedule", "call", "error", "why"),
    [
        ("1F1B", 1, KeyboardInterrupt(), "interrupted"),  # while all sides are tried
        (ONE_PROCESS, 2, KeyboardInterrupt(), "interrupted"),  # in the first round
        (LIMIT_BP, 2, KeyboardInterrupt(), "interrupted"),
        (ERRORCAST, 4, PeerFailed("a worker died"), "a later round: a worker died"),
        ("costs", 2, PeerFailed("a worker died"), "a worker died"),
        ("link", 1, PeerFailed("a worker died"), "a worker died"),
    ],
)
def test_what_was_measured_is_kept(
    tmp_path: Path, schedule: str, call: int, error: BaseException, why: str
) -> None:
    comparison, found = compared(at(schedule, call, error))
    assert comparison.stopped is not None
    assert why in found["summary"]["stopped"]
    rows = {row["schedule"]: row for row in found["rows"] if row["best"]}
    assert rows[ERRORCAST]["step_ms"] == pytest.approx(10)
    assert rows["GPipe"]["step_ms"] == pytest.approx(10)
    missing = [name for name, row in rows.items() if row["step_ms"] is None]
    assert all("stopped before" in rows[name]["reason"] for name in missing)
    assert (ONE_PROCESS in missing) == (schedule == "1F1B")
    assert_shown(tmp_path, comparison, found)


@pytest.mark.blocks
def test_a_side_that_fails_in_a_later_round_keeps_its_figures(tmp_path: Path) -> None:
    comparison, found = compared(at("1F1B", 3, PeerFailed("out of memory")))
    assert comparison.stopped is None
    assert found["summary"]["stopped"] is None
    row = next(row for row in found["rows"] if row["schedule"] == "1F1B")
    assert (row["reason"], row["failed"]) == (None, "out of memory")
    assert row["speedup"] == 1
    others = [row for row in found["rows"] if row["failed"] is None]
    assert len(others) == len(found["rows"]) - 1
    assert_shown(tmp_path, comparison, found)


@pytest.mark.blocks
def test_a_job_that_errorcast_cannot_run_is_refused_before_the_others_are_measured() -> None:
    def trouble(schedule: str, _: int) -> None:
        assert schedule == ERRORCAST
        raise PeerFailed("a layer does not fit")

    with pytest.raises(JobError, match="errorcast cannot run this: a layer does not fit"):
        compared(trouble)
