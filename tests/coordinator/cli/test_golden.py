"""The tables of the verbs at 80 columns, as golden_tables.txt has them.

`python tests/coordinator/cli/test_golden.py` writes the file again; read its difference.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from errorcast.v1.job_pb2 import JOB_STATE_QUEUED, JOB_STATE_RUNNING, Job, JobSpec
from rich.cells import cell_len
from rich.console import Console

from coordinator.cli.job_text import job_table
from coordinator.cli.viewer import plan_table, result_table
from coordinator.experiments.chaos import Fault, Outcome
from coordinator.experiments.leaderboard.page import tables
from coordinator.experiments.leaderboard.result import Results
from coordinator.experiments.leaderboard.targets import OURS, read_targets
from coordinator.experiments.method_comparison import Row
from coordinator.experiments.tables import (
    alignment_table,
    board_table,
    chaos_table,
    method_table,
    prediction_table,
    target_table,
)
from coordinator.experiments.text.table import TextTable
from dfa_speedup.simulation.scaling import Prediction
from dfa_speedup.simulation.shape import Shape

GOLDEN = Path(__file__).with_name("golden_tables.txt")
BOARD = Path(__file__).parents[3] / "docs" / "leaderboard"


def made() -> Mapping[str, TextTable]:
    """Tables of each kind, of what runs have given."""
    layers = [
        {"layer": "layer 0 (Linear+Tanh)", "features": 256, "parameters": 16_640, "cost_ms": 0.21},
        {
            "layer": "layer 11 (TransformerEncoderLayer+LayerNorm)",
            "features": 1_048_576,
            "parameters": 123_456_789,
            "cost_ms": 1234.5,
        },
    ]
    summary = {
        "metrics": {"loss": 0.0967, "accuracy": 0.9778},
        "step_ms": 11.55,
        "samples_per_s": 5542.0,
        "gflops_per_s": 0.308,
        "steps": 2640,
        "processes": [
            {"process": "block 1", "layers": "0-2", "busy": 0.672, "waiting": 0.328,
             "bytes_sent": 43_253_760},
            {"process": "coordinator", "layers": "head", "busy": 0.392, "waiting": 0.608,
             "bytes_sent": 50_012_160},
        ],
    }  # fmt: skip
    cosines = [(step, [("layer 0 (Linear+Tanh)", c)]) for step, c in ((0, 0.01), (22, 0.3))]
    row = Row(
        "dfa-identity-delayed",
        [{"loss": 0.5, "accuracy": 0.9}, {"loss": 0.7, "accuracy": 0.8}],
        [1000, 1000], [1.0, 2.0], [], [cosines, cosines],
    )  # fmt: skip
    faults = [
        Fault("kill", 1, 395, 0.0, victim_name="block 1", struck_at=1.0, recovered_s=3.5,
              repeated=22),
        Fault("stop", 0, 500, 0.0, victim_name="coordinator"),
    ]  # fmt: skip
    sums = Outcome(faults, True, True, 20.0, 15.0).summary()
    job = Job(
        id="fashion-mnist-0001",
        state=JOB_STATE_RUNNING,
        reason="started at step 0",
        spec=JobSpec(blocks=2, heads=1, replicas=3),
    )
    job.progress.step, job.progress.total_steps, job.progress.loss = 1320, 2640, 0.0128
    job.submitted.seconds = 1_800_000_000
    waits = Job(
        id="digits-0002",
        state=JOB_STATE_QUEUED,
        reason="after fashion-mnist-0001 in the queue",
        spec=JobSpec(blocks=1),
    )
    peers = dict.fromkeys(("GPipe", "1F1B", "interleaved zero bubble", "ZBV zero bubble"), 1.5)
    shape = Shape(1024, 2, "coordinator")
    planned = Prediction(shape, 2048, 0.1, 0.98, "block 1 + head", peers, 12.0, 5e8)
    reached = [
        {"label": "errorcast", "microbatches": 4, "seconds": 12.3, "epochs": 2, "reached": True,
         "failed": None, "scores": [{"loss": 0.3, "accuracy": 0.88}]},
        {"label": "interleaved zero bubble x2", "microbatches": 8, "seconds": 99.9, "epochs": 10,
         "reached": False, "failed": "the loss is nan at step 12", "scores": []},
    ]  # fmt: skip
    return {
        "plan of a run": plan_table([{**row, "block": i + 1} for i, row in enumerate(layers)]),
        "result of a run": result_table(summary),
        "compare": method_table([row], "digits, 2 seed(s)"),
        "alignment": alignment_table(row),
        "chaos": chaos_table(faults, sums),
        "jobs": job_table([waits, job]),
        "plan": prediction_table([("", planned), ("K 2048, R 1", "the model has 1024 layers")]),
        "bench --to-accuracy": target_table(reached),
    }


def shown(table: TextTable, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), markup=False, emoji=False)
    console.print(table)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def all_shown() -> str:
    return "\n".join(f"== {name}\n{shown(table, 80)}" for name, table in made().items())


def test_the_tables_are_the_golden_ones() -> None:
    assert all_shown() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 132])
def test_the_real_board_breaks_no_word(width: int) -> None:
    found = tables(read_targets(OURS), Results(BOARD))
    assert found
    for one in found:
        text = shown(board_table(one), width)
        assert max(map(cell_len, text.splitlines())) <= width
        names = {row[1] for row in one.rows()}
        assert names <= {*text.split()}


if __name__ == "__main__":
    GOLDEN.write_text(all_shown(), encoding="utf-8")
