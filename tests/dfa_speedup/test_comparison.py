"""A comparison keeps what it has measured when a side fails or somebody stops it; no workers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.networks import NETWORKS, SAMPLES, Noise, rule
from torch import nn

from coordinator.experiments.bench_folder import BenchFolder, Record
from coordinator.experiments.bench_results import results, write_views
from coordinator.experiments.tables import bench_table
from coordinator.planning.workload import open_prefetcher
from coordinator.runs.valid_json import json_text
from dfa_core import JobError, TrainingFailed, profile, split
from dfa_speedup.bench_worker import Trained
from dfa_speedup.bench_workers import PeerFailed, WorkersLost
from dfa_speedup.comparison import Comparison, Trial, to_measure
from dfa_speedup.measured import Measurements
from dfa_speedup.peers import EAGER_PIPELINES, ERRORCAST, LIMIT_BP, ONE_PROCESS
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

    def refusal(self, _: Configuration) -> None:
        return None

    def flops(self) -> dict[str, int]:
        self._calls("flops")
        return {"bp": 3, "dfa": 2}

    def forget(self) -> None:
        pass

    def trial(self, _: Any, side: Configuration, steps: int) -> Trial:
        self._calls(side.schedule)
        return Trial([0.01] * (steps - 1), [], [t.spans for t in self._trained(steps)], 0, SHAPE)

    def first_trial(self, _: Any, side: Configuration, steps: int) -> tuple[Trial, float]:
        return self.trial(_, side, steps), 1.0


class Run:
    """A comparison that is kept in a folder, as `errorcast bench` keeps it."""

    def __init__(self, folder: Path, trouble: Trouble, rounds: int = 3) -> None:
        folder.mkdir(exist_ok=True)
        self.workload, self.folder, self.rounds = a_workload(), BenchFolder(folder), rounds
        self.sides: Any = Sides(trouble)
        self.stopped: str | None = "it was not finished"

    def run(self, earlier: Measurements | None = None) -> dict[str, Any]:
        """Run it to its end, or until it is stopped; return what is in the folder then."""
        found = to_measure(self.workload, 2, [M], earlier=earlier)
        record = Record(
            1, {}, {"cpu": "x", "gpus": [], "cores": 2, "system": "", "python": ""}, found
        )
        record.machine["versions"] = {}

        def keep() -> None:
            made = results("a task", "errorcast bench", self.workload, record, self.stopped)
            self.folder.keep(record, json_text(made))

        comparison = Comparison(self.workload, self.sides, self.sides, found, lambda *_: None, keep)
        try:
            comparison.run(self.rounds, STEPS)
            self.stopped = None
        except (KeyboardInterrupt, TrainingFailed) as error:
            self.stopped = str(error) or "interrupted"
        kept = self.kept()
        keep()
        return kept

    def kept(self) -> dict[str, Any]:
        """Return bench.json; its table and all other files can be made of it."""
        text = (self.folder.path / "bench.json").read_text()
        found: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
        assert bench_table(found, every=True)
        write_views(self.folder.path, found, self.folder.earlier().measurements)
        return found


def at(schedule: str, call: int, error: BaseException) -> Trouble:
    def trouble(called: str, number: int) -> None:
        if (called, number) == (schedule, call):
            raise error

    return trouble


LATER = [
    ("1F1B", 1, KeyboardInterrupt(), "interrupted"),  # while all sides are tried
    (ONE_PROCESS, 2, KeyboardInterrupt(), "interrupted"),  # in the first round
    (LIMIT_BP, 2, KeyboardInterrupt(), "interrupted"),
    (ERRORCAST, 4, PeerFailed("out of memory"), "a later round: out of memory"),
    ("costs", 2, PeerFailed("out of memory"), "out of memory"),
    ("link", 1, PeerFailed("out of memory"), "out of memory"),
]


@pytest.mark.blocks
@pytest.mark.parametrize(("schedule", "call", "error", "why"), LATER)
def test_what_was_measured_is_kept_and_gone_on_with(
    tmp_path: Path, schedule: str, call: int, error: BaseException, why: str
) -> None:
    run = Run(tmp_path, at(schedule, call, error))
    found = run.run()
    assert run.stopped is not None
    assert why in run.stopped
    rows = {row["schedule"]: row for row in found["rows"] if row["best"]}
    assert rows[ERRORCAST]["step_ms"] == pytest.approx(10)
    assert rows["GPipe"]["step_ms"] == pytest.approx(10)
    missing = [name for name, row in rows.items() if row["step_ms"] is None]
    assert all("stopped before" in rows[name]["reason"] for name in missing)
    assert (ONE_PROCESS in missing) == (schedule == "1F1B")

    again = Run(tmp_path, lambda *_: None)
    earlier = run.folder.earlier().measurements
    known = {s.configuration: (list(s.tried), list(s.ratios)) for s in earlier.sides}
    whole = again.run(earlier)
    assert again.stopped is None
    assert {row["schedule"] for row in whole["rows"] if row["failed"]} == set()
    after = again.folder.earlier().measurements
    for side in after.sides:
        tried, ratios = known[side.configuration]
        assert side.tried[: len(tried)] == tried
        assert side.ratios[: len(ratios)] == ratios
        if side is after.best(side.configuration.schedule) and side is not after.ours():
            assert len(side.ratios) == (0 if side.reason else 3)
    fresh = Run(tmp_path / "fresh", lambda *_: None)
    fresh.run()
    spared = sum(
        fresh.sides.calls[name] - again.sides.calls.get(name, 0) for name in EAGER_PIPELINES
    )
    assert spared == sum(
        (len(tried) > 0) + len(ratios)
        for side, (tried, ratios) in known.items()
        if side.schedule in EAGER_PIPELINES
    )


@pytest.mark.blocks
def test_nothing_is_measured_again_where_all_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path, lambda *_: None, rounds=2)
    run.run()
    again = Run(tmp_path, lambda *_: None, rounds=2)
    again.run(run.folder.earlier().measurements)
    assert again.sides.calls == {}


@pytest.mark.blocks
def test_a_side_that_is_not_asked_for_again_stays(tmp_path: Path) -> None:
    run = Run(tmp_path, lambda *_: None, rounds=1)
    run.run()
    earlier = run.folder.earlier().measurements
    found = to_measure(run.workload, 2, [2], earlier=earlier)
    kept = {side.configuration: side for side in found.sides}
    assert all(kept[side.configuration] is side for side in earlier.sides if side.tried)
    assert Configuration(ERRORCAST, 2) in kept


@pytest.mark.blocks
@pytest.mark.parametrize(
    ("schedule", "call"), [("1F1B", 1), ("1F1B", 3), (ERRORCAST, 1), (ERRORCAST, 4)]
)
def test_a_side_whose_workers_die_runs_once_more(tmp_path: Path, schedule: str, call: int) -> None:
    run = Run(tmp_path, at(schedule, call, WorkersLost("a worker's process died")))
    found = run.run()
    assert run.stopped is None
    assert not any(row["failed"] for row in found["rows"])
    row = next(row for row in found["rows"] if row["schedule"] == schedule)
    assert row["reason"] is None
    assert row["speedup"] == 1


@pytest.mark.blocks
def test_a_side_that_fails_in_a_later_round_keeps_its_figures(tmp_path: Path) -> None:
    run = Run(tmp_path, at("1F1B", 3, PeerFailed("out of memory")))
    found = run.run()
    assert run.stopped is None
    row = next(row for row in found["rows"] if row["schedule"] == "1F1B")
    assert (row["reason"], row["failed"]) == (None, "out of memory")
    assert row["speedup"] == 1
    others = [row for row in found["rows"] if row["failed"] is None]
    assert len(others) == len(found["rows"]) - 1


@pytest.mark.blocks
def test_a_job_that_errorcast_cannot_run_is_refused_before_the_others_are_measured(
    tmp_path: Path,
) -> None:
    def trouble(schedule: str, _: int) -> None:
        assert schedule == ERRORCAST
        raise PeerFailed("a layer does not fit")

    with pytest.raises(JobError, match="errorcast cannot run this: a layer does not fit"):
        Run(tmp_path, trouble).run()


@pytest.mark.blocks
def test_measurements_read_back_are_what_was_written(tmp_path: Path) -> None:
    run = Run(tmp_path, lambda *_: None, rounds=2)
    run.run()
    record = run.folder.earlier()
    assert record.measurements.link == Link(1e-5, 1e9)
    run.folder.keep(record, "{}")
    assert run.folder.earlier() == record
    (tmp_path / "measured.json").write_text('{"format": 2}')
    with pytest.raises(JobError, match=r"measured.json cannot be read"):
        run.folder.earlier()
    with pytest.raises(JobError, match="holds no comparison"):
        BenchFolder(tmp_path / "empty").earlier()
