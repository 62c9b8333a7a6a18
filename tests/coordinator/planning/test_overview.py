"""`errorcast summary`: what a job will be, against what can be counted by hand."""

import json
from typing import Any

import pytest
import torch
from support.command_line import run_errorcast
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.job.resolve import resolve
from coordinator.planning.overview import Overview, overview
from dfa_tasks import Splits, Task

IN, WIDTH, OUT, BATCH = 6, 10, 4, 32
PASS = 2 * BATCH  # multiply and add, for each weight and sample


def found(frozen: bool = False, **settings: Any) -> Overview:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(IN, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, OUT)
    )
    if frozen:
        net[2].requires_grad_(False)
    data = TensorDataset(torch.randn(64, IN), torch.arange(64) % OUT)
    task = Task(net, nn.functional.cross_entropy, Splits(data, data))
    return overview(resolve(task, {"batch_size": BATCH, "microbatches": 2, **settings}))


def test_operations_of_each_method() -> None:
    first, second, head = IN * WIDTH, WIDTH * WIDTH, WIDTH * OUT
    feedback = OUT * WIDTH  # e times the layer's matrix
    dfa = [row.flops for row in found().layers]
    assert dfa == [
        PASS * (2 * first + feedback), PASS * (2 * second + feedback), PASS * 2 * head,
    ]  # fmt: skip
    bp = [row.flops for row in found(method="bp").layers]
    assert bp[1:] == [PASS * 3 * second, PASS * 3 * head]
    shallow = [row.flops for row in found(method="shallow").layers]
    assert shallow == [PASS * first, PASS * second, PASS * 2 * head]


def test_frozen_weights_are_not_trained_and_cost_less() -> None:
    row = found(frozen=True).layers[1]
    assert (row.parameters, row.trained) == (WIDTH * WIDTH + WIDTH, 0)
    assert row.flops == PASS * WIDTH * WIDTH


@pytest.mark.parametrize(("kind", "numbers"), [("learned", 4), ("forward", 2), ("random", 0)])
def test_feedback_matrices_that_change_are_counted_apart(kind: str, numbers: int) -> None:
    """Learned ones are kept with a gradient and two numbers of Adam; averages with a gradient."""
    seen, plain = found(feedback={"kind": kind}), found()
    entries = OUT * WIDTH if numbers else 0
    assert [row.matrices for row in seen.layers] == [entries, entries, 0]
    assert [row.trained for row in seen.layers] == [row.parameters for row in seen.layers]
    assert (seen.trained, seen.matrices) == (plain.trained, 2 * entries)
    kept = seen.workers[0].kept - plain.workers[0].kept
    assert kept == pytest.approx(4 * numbers * entries, rel=1e-3)  # and Adam counts its steps


def test_the_command_shows_them_apart() -> None:
    shown = run_errorcast("summary", "digits", "--set", "feedback.kind=learned").out
    assert "feedback matrices: 7,680 entries" in shown
    assert "entries that change in training" in shown


@pytest.mark.parametrize("heads", [0, 1])
def test_what_workers_hold_and_send(heads: int) -> None:
    seen = found(blocks=2, heads=heads)
    names = ["block 1", "block 2", *["head 1"] * heads]
    assert [row.name for row in seen.workers] == names
    assert sum(row.share for row in seen.workers) == pytest.approx(1)
    numbers = 4  # weight, gradient, two of Adam
    kept = [4 * numbers * (WIDTH * (IN + 1)), 4 * numbers * (WIDTH * (WIDTH + 1))]
    of_head = 4 * numbers * OUT * (WIDTH + 1)
    expected = [*kept, of_head] if heads else [kept[0], kept[1] + of_head]
    assert [row.kept for row in seen.workers] == pytest.approx(expected, rel=1e-3)  # and its step
    passed, error = 4 * BATCH * WIDTH, 4 * BATCH * OUT
    sent = [passed, passed, 2 * error] if heads else [passed, error]
    assert [row.sent for row in seen.workers] == sent
    assert seen.parameters == seen.trained == sum(row.parameters for row in seen.layers)


def test_the_command_shows_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    done = run_errorcast("summary", "digits", "--blocks", "3", cwd=tmp_path)
    assert done.code == 0, done.err
    for text in ("layer 2 (Linear+Tanh)", "the head (Linear)", "block 3", "MFLOP"):
        assert text in done.out
    done = run_errorcast("summary", "digits", "--format", "json", cwd=tmp_path)
    assert len(json.loads(done.out)["layers"]) == 4
    wrong = run_errorcast("summary", "digits", "--format", "xml", cwd=tmp_path)
    assert (wrong.code, wrong.err) == (2, "errorcast: --format: xml must be table or json\n")
    wrong = run_errorcast("summary", "digits", "--set", "frozen=[layer.9.*]", cwd=tmp_path)
    assert (wrong.code, "frozen: no weight is named layer.9.*" in wrong.err) == (2, True)
    assert not list(tmp_path.iterdir())
